"""HTML from Python: every text is escaped, unless it is `Html` already."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VOID = {"meta", "img", "input", "br", "link"}

# what no HTML text may hold: control characters, and halves of characters from odd file names
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Text that is HTML; made by `el` and `join` alone."""

    __slots__ = ()


def el(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    Children are escaped unless they are `Html`; None is left out. In names of attributes ``_``
    stands for ``-``, one at the end is dropped (``class_``); True gives an attribute without a
    value, None and False none.
    """
    shown = "".join(
        f" {_attribute_name(key)}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def text(value: object) -> Html:
    """Return `value` as text that holds no markup."""
    if isinstance(value, Html):
        return value
    return Html(escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(value)), quote=True))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Return parts one after the other; None is left out."""
    return Html(between.join(text(part) for part in parts if part is not None))


def name(value: object) -> Html:
    """Return a name that a user gave: its direction of writing stays its own."""
    return el("bdi", value)


def table(
    caption: str, heads: Sequence[object], rows: Iterable[Sequence[object]], **attributes: Any
) -> Html:
    """Return a table whose rows begin with their head, and that scrolls on a narrow screen."""
    head = el("tr", *(el("th", cell, scope="col") for cell in heads))
    body = [
        el("tr", el("th", first, scope="row"), *(el("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    content = el("table", el("caption", caption), el("thead", head), el("tbody", *body))
    attributes.setdefault("class_", "scroll")
    return el("div", content, role="region", aria_label=caption, tabindex="0", **attributes)


def figures(pairs: Iterable[tuple[str, object]]) -> Html:
    """Return a grid of named numbers."""
    cells = [el("div", el("dt", term), el("dd", value)) for term, value in pairs]
    return el("dl", *cells, class_="figures")


def number(value: float | None, shown: str | None = None, **attributes: object) -> Html:
    """Return a number for people that machines can read as well; a dash for None."""
    if value is None:
        return Html("–")
    return el("data", f"{value:,}" if shown is None else shown, value=value, **attributes)


def _attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
