"""The sections of the page that are words and tables: overview, integrity, metadata."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from mda_writers.model.encode import to_json
from mda_writers.recording.files import journal_path, recording_path, sidecar_path
from mda_writers.recording.finish import files_of
from mda_writers.report.facts import COMPLETE, DAMAGED, INCOMPLETE, INTERRUPTED, RUNNING
from mda_writers.report.html import Html, el, figures, join, name, number, table
from mda_writers.storage.disk_space import human_bytes
from mda_writers.storage.files import files_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.verify import VerifyResult
    from mda_writers.report.facts import Facts


CHIPS = {
    COMPLETE: ("ok", "Complete"),
    INCOMPLETE: ("bad", "Incomplete"),
    INTERRUPTED: ("bad", "Interrupted"),
    RUNNING: ("busy", "Running"),
    DAMAGED: ("bad", "Damaged"),
}
"""State → the class and the text of its chip."""

INDICES_LISTED = 200
"""Missing and skipped frames that are named on the page."""

IMAGES_LISTED = 500

FAULTS_LISTED = 100
FILES_LISTED = 500

ROWS = 20_000
"""Rows of one table; a plan of a hundred thousand positions would be a page that no phone opens."""

FRAME_BYTES = 400_000
"""Metadata of single frames on a page, as JSON."""

_ELSEWHERE = ("report", "runs", "load")


def chip(state: str) -> Html:
    """Return a recording's state as a small label."""
    kind, shown = CHIPS[state]
    return el("span", shown, class_=f"chip {kind}", data_state=state)


def overview(facts: Facts, heading: str) -> Html:
    """Return the head: name, state, and the numbers that people ask for first."""
    return el(
        "header",
        el(heading, name(facts.path.name)),
        el("p", chip(facts.state), " ", _sentence(facts), class_="lead"),
        _problems(facts),
        figures(_numbers(facts)),
    )


def frames_section(facts: Facts, heading: str) -> Html:
    """Return what was planned, written, skipped and missing, by image."""
    return el(
        "section",
        el(heading, "Frames"),
        figures(_counts(facts)),
        _listed("Missing frames", facts.stored.report.missing if facts.stored.report else ()),
        _listed("Skipped frames", facts.stored.report.skipped if facts.stored.report else ()),
        _images(facts),
    )


def duration(seconds: float) -> str:
    """Return a time as people write it."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _sentence(facts: Facts) -> str:
    written, expected = f"{facts.frames_written:,}", facts.frames_expected
    of = "" if expected is None else f" of {expected:,} planned"
    count = f"{written}{of} frames are on disk"
    return {
        COMPLETE: f"{count}; nothing is missing.",
        INCOMPLETE: f"{count}.",
        DAMAGED: f"{count} by what the recording says of itself; some cannot be read, or are not "
        "what was written.",
        RUNNING: f"{count} so far; this page is a look at a recording that goes on.",
        INTERRUPTED: f"{count}. The recording never came to its end; they can be read all the "
        f"same. “mda-writers recover” gives the files their final form.",
    }[facts.state]


def _problems(facts: Facts) -> Html | None:
    report = facts.stored.report
    told = list(facts.problems)
    if report is not None:
        told += [report.error] if report.error else []
        told += ["The run was cancelled."] if report.canceled else []
        told += _of_the_camera(report.camera_gaps, report.buffer_overflowed)
    return el("ul", *(el("li", each) for each in told), class_="problems") if told else None


def _of_the_camera(gaps: int, overflowed: bool | None) -> list[str]:
    told = [f"The camera counted {gaps:,} frames that never came."] if gaps else []
    return told + (["Micro-Manager's circular buffer overflowed."] if overflowed else [])


def _numbers(facts: Facts) -> Iterable[tuple[str, object]]:
    layout = facts.stored.header.get("layout") or {}
    first = facts.images[0] if facts.images else None
    seconds = facts.seconds
    yield "Frames on disk", number(facts.frames_written, data_figure="frames_written")
    yield "Size", number(facts.bytes_written, human_bytes(facts.bytes_written))
    yield "Duration", number(seconds, duration(seconds))
    if seconds:
        rate = facts.bytes_written / seconds / 1e6
        yield "Throughput", number(rate, f"{rate:.4g} MB/s", data_figure="mb_per_s")
    if first is not None:
        yield "Frame", f"{' × '.join(map(str, reversed(first.frame_shape[:2])))} {first.dtype}"
        yield "Axes", " · ".join(f"{axis} {n}" for axis, n in first.sizes.items()) or "one frame"
    yield "Images (positions)", number(len(facts.images))
    if layout.get("pixel_size_um"):
        yield "Pixel size", f"{layout['pixel_size_um']:.4g} µm"
    if layout.get("started"):
        yield "Started", el("time", str(layout["started"])[:19].replace("T", " "))
    yield "Format", str(facts.stored.header.get("format", "unknown"))


def _counts(facts: Facts) -> Iterable[tuple[str, object]]:
    report = facts.stored.report
    yield "Planned", number(facts.frames_expected, data_figure="frames_expected")
    yield "On disk", number(facts.frames_written)
    if report is None:
        if facts.frames_expected is not None:
            missing = facts.frames_expected - facts.frames_written
            where = "Not on disk yet" if facts.state == RUNNING else "Not on disk"
            yield where, number(missing, data_figure="frames_missing")
        return
    yield "Received", number(report.frames_received)
    yield "Missing", number(report.frames_missing, data_figure="frames_missing")
    yield "Skipped", number(len(report.skipped), data_figure="frames_skipped")
    yield "Left out on purpose", number(report.not_saved)
    yield "Missed by the camera", number(report.camera_gaps)


def _listed(what: str, indices: Iterable[Mapping[str, int]]) -> Html | None:
    """Return the indices of frames, folded away."""
    each = list(indices)
    if not each:
        return None
    more = len(each) - INDICES_LISTED
    shown = [el("code", _index(index)) for index in each[:INDICES_LISTED]]
    rest = f" … and {more:,} more in the recording's report" if more > 0 else None
    return el("details", el("summary", f"{what}: which"), el("p", join(shown, ", "), rest))


def _index(index: Mapping[str, int]) -> str:
    return " ".join(f"{axis}{i}" for axis, i in index.items()) or "(no index)"


def _images(facts: Facts) -> Html:
    rows = [_image_row(facts, image) for image in facts.images[:IMAGES_LISTED]]
    cut = len(facts.images) - len(rows)
    caption = "Images of the recording" + (f" (the first {len(rows)}; {cut} more)" if cut else "")
    return table(
        caption, ("Position", "File", "Sizes", "On disk", "Planned", "Stage x, y, z (µm)"), rows
    )


def _image_row(facts: Facts, image: ImageLayout) -> tuple[object, ...]:
    planned = None if image.growing else image.frames_planned
    place = image.position_um or ()
    known = [um is not None for um in place]
    return (
        name(image.name or image.key),
        name(image.file),
        " × ".join(f"{axis} {n}" for axis, n in image.sizes.items()),
        number(facts.written.get(image.key, 0)),
        number(planned),
        ", ".join("–" if um is None else f"{um:.6g}" for um in place) if any(known) else "–",
    )


def integrity_section(facts: Facts, heading: str) -> Html:
    """Return the result of reading everything back, and the files."""
    result = facts.verified
    if result is None:
        told = _not_verified(facts)
    elif result.intact and not facts.is_readable:
        told = _not_read()
    else:
        told = _verified(result)
    return el("section", el(heading, "Integrity"), told, _files(facts))


def _not_verified(facts: Facts) -> Html:
    how = (
        "A recording that goes on can be verified when it has ended."
        if facts.state == RUNNING
        else "“mda-writers verify” reads every frame back and compares it with its checksum."
    )
    return el("p", el("strong", "Not verified.", data_integrity="not verified"), " ", how)


def _not_read() -> Html:
    return el(
        "p",
        el("span", "Damaged", class_="chip bad", data_integrity="damaged"),
        " Not all of it could be read; what is said at the top of the page.",
    )


def _verified(result: VerifyResult) -> Html:
    read = f"{result.frames_checked:,} frames ({human_bytes(result.bytes_read)}) were read back"
    if result.intact:
        return el(
            "p",
            el("span", "Intact", class_="chip ok", data_integrity="intact"),
            f" {read}; each is what was written.",
        )
    faults = [
        (number(fault.number), name(fault.key), name(fault.file), fault.what)
        for fault in result.faults[:FAULTS_LISTED]
    ]
    missing = [(name(file), "missing") for file in result.files_missing]
    damaged = [(name(file), what) for file, what in result.files_damaged.items()]
    return el(
        "div",
        el(
            "p",
            el("span", "Damaged", class_="chip bad", data_integrity="damaged"),
            f" {read}. Not what was written: ",
            number(result.frames_faulty, data_figure="frames_faulty"),
            ".",
        ),
        table("Files", ("File", "What"), [*missing, *damaged]) if missing or damaged else None,
        table("Frames", ("Frame", "Image", "File", "What"), faults) if faults else None,
    )


def _files(facts: Facts) -> Html:
    main = facts.path
    paths = files_of(main, (file for image in facts.images for file in image.all_files))
    paths += [f(main) for f in (sidecar_path, recording_path, journal_path)]
    existing = [path for path in paths if path.exists()]
    rows = [(name(path.name), _size(path)) for path in existing[:FILES_LISTED]]
    more = len(existing) - len(rows)
    caption = f"Files in {main.parent.name}" + (f" (and {more} more)" if more else "")
    return table(caption, ("File", "Size"), rows)


def _size(path: Path) -> Html:
    size = sum(map(_bytes, files_in(path) if path.is_dir() else [path]))
    return number(size, human_bytes(size))


def _bytes(file: Path) -> int:
    with suppress(FileNotFoundError):  # while a recording goes on, files are replaced
        return file.stat().st_size
    return 0


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
