"""The head of a recording's part of the page: what it is, whether it is whole, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mda_writers.report.facts import COMPLETE, DAMAGED, INCOMPLETE, INTERRUPTED, RUNNING
from mda_writers.report.html import Html, el, figures, join, name, number, table
from mda_writers.storage.space import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mda_writers.model.layout import ImageLayout
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
