"""The whole metadata as tables of names and values, with a field to search them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mda_writers.model.encode import to_json
from mda_writers.report.html import Html, el, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mda_writers.report.facts import Facts

ROWS = 20_000
"""Rows of one table; a plan of a hundred thousand positions would be a page that no phone opens."""

FRAME_BYTES = 400_000
"""Metadata of single frames on a page, as JSON."""

_ELSEWHERE = ("report", "runs", "load")


def metadata_section(facts: Facts, heading: str) -> Html:
    """Return everything that is known about the recording, and about (some of) its frames."""
    header = orjson.loads(to_json(facts.stored.header))
    blocks = {
        "Acquisition plan": header.pop("sequence", None),
        "Microscope": header.pop("summary_metadata", None),
        "Report": header.get("report"),
        "Recording": {key: value for key, value in header.items() if key not in _ELSEWHERE},
    }
    return el(
        "section",
        el(heading, "Metadata"),
        *metadata_blocks(blocks),
        _frames_block(facts),
    )


def metadata_blocks(blocks: Mapping[str, Any]) -> list[Html]:
    """Return a field to search in, and a folded table for each of some JSON values."""
    return [_search(), *(_block(title, content) for title, content in blocks.items() if content)]


def _search() -> Html:
    field = el("input", type="search", placeholder="Search names and values", autocomplete="off")
    label = el("label", el("span", "Search the metadata", class_="soft"), el("br"), field)
    return el("div", label, " ", el("output", aria_live="polite", class_="soft"), class_="search",
              hidden=True)  # fmt: skip


def _block(title: str, content: Any) -> Html:
    rows = list(flattened(content))
    cut = len(rows) - ROWS
    note = f" ({cut:,} more are in the recording's files)" if cut > 0 else ""
    return el(
        "details",
        el("summary", f"{title}: {len(rows):,} values"),
        table(f"{title}{note}", ("Name", "Value"), rows[:ROWS], class_="meta"),
    )


def _frames_block(facts: Facts) -> Html | None:
    entries = facts.frames.entries
    if not entries:
        return None
    texts = [to_json(entry).decode() for entry in entries]
    most = max(1, FRAME_BYTES // facts.share // max(1, sum(map(len, texts)) // len(texts)))
    every = -(-len(texts) // most)
    rows = [
        (_frame_name(entry), text)
        for entry, text in list(zip(entries, texts, strict=True))[::every]
    ]
    count = len(facts.frames)
    of = "all frames" if len(rows) == count else f"{len(rows):,} of {count:,} frames, evenly spaced"
    return el(
        "details",
        el("summary", f"Frames: {of}"),
        table(f"Metadata of {of}", ("Frame", "Metadata"), rows, class_="meta frames"),
    )


def _frame_name(entry: Mapping[str, Any]) -> str:
    ours = entry["mda_writers"]
    index = " ".join(f"{axis}{i}" for axis, i in ours["index"].items())
    return f"{ours['number']}: {index}"


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return the path and the text of everything within `value`, which is JSON."""
    if isinstance(value, dict) and value:
        if set(value) == {"name", "value"}:  # a property of a device
            yield f"{path} › {value['name']}", str(value["value"])
            return
        for key, inner in value.items():
            yield from flattened(inner, f"{path} › {key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        for n, inner in enumerate(value):
            yield from flattened(inner, f"{path} › {_item_name(inner, n)}")
    elif isinstance(value, list):
        yield path, ", ".join(map(_plain, value)) or "–"
    else:
        yield path, _plain(value) if value != {} else "–"


def _item_name(item: Any, n: int) -> str:
    """Return a device's label, a channel's name, or the number of what has none."""
    if isinstance(item, dict):
        for key in ("label", "name", "config"):
            if isinstance(item.get(key), str) and item[key] and "value" not in item:
                return f"{n} {item[key]}"
    return str(n)


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)
