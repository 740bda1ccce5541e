"""Read a report page as any HTML parser does, and say what is on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "img", "input", "br", "link"}
INLINE = {"script", "style"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        own = (c if isinstance(c, str) else c.text for c in self.children)
        return "" if self.name in INLINE else "".join(own)

    def all(self, name: str) -> list[Element]:
        inner = [c for c in self.children if isinstance(c, Element)]
        return [e for c in inner for e in ([c] if c.name == name else []) + c.all(name)]

    def everything(self) -> list[Element]:
        inner = [c for c in self.children if isinstance(c, Element)]
        return [e for c in inner for e in (c, *c.everything())]

    def figure(self, name: str) -> str:
        """Return the value of the first number of that name."""
        return self.with_attribute("data-figure", name).attributes["value"]

    def with_attribute(self, key: str, value: str) -> Element:
        return next(e for e in self.everything() if e.attributes.get(key) == value)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(path: Path) -> Element:
    """Return the page at `path`; every element must be closed, and no attribute given twice."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == [reader.root], f"not closed: {[e.name for e in reader.open[1:]]}"
    return reader.root
