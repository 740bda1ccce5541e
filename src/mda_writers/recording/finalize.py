"""The end of a recording, told by its journal alone: after a normal end and after a crash alike."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from errno import ENOENT
from typing import TYPE_CHECKING, Any

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.plane import PLANES_DESCRIBED, PlaneInfo, slot_of
from mda_writers.recording.runs import BY_PLACE, runs_of
from mda_writers.sinks.journal import Journal
from mda_writers.sinks.seal import FileSeal
from mda_writers.sinks.sidecar import journal_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mda_writers.formats.format import Format
    from mda_writers.model.layout import ImageLayout, Layout

LINES_LISTED = 20
"""Altered lines that are named."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A recording whose files have their final form.

    Attributes
    ----------
    layout : Layout
        Its images, with their final sizes; those without a frame are not among them.
    header : dict
        What the journal's first line says.
    places : dict
        Key → the places of the frames that are on disk.
    runs : dict
        Key → the same in a few numbers, with where they lie (see ``recording/runs.py``).
    load : list of dict
        How full queue and disk were meanwhile (see ``sinks/load_log.py``).
    seals : dict
        File → what it says besides pixels (see ``sinks/seal.py``).
    problems : list of str
        What was found damaged: files that have no final form, lines of the journal.
    """

    layout: Layout
    header: dict[str, Any]
    places: dict[str, list[tuple[int, ...]]]
    runs: dict[str, list[list[int]]]
    load: list[dict[str, Any]] = field(default_factory=list)
    seals: dict[str, FileSeal] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def finish_files(path: Path, fmt: Format, *, damaged: bool = False) -> Finished:
    """Bring the files of the recording at `path` into their final form.

    What is done twice is done right: a finish that was itself killed can be repeated. What goes
    wrong with one file is raised when all others have their final form.

    Parameters
    ----------
    path : Path
        The recording's main path.
    fmt : Format
        How its files end.
    damaged : bool
        Whether files that cannot be read are left as they are, and told in `Finished.problems`.
    """
    journal = Journal.read(journal_path(path))
    planes: defaultdict[str, list[PlaneInfo]] = defaultdict(list)
    slots: defaultdict[str, list[int]] = defaultdict(list)
    ends: defaultdict[str, int] = defaultdict(int)
    for key, frame in journal.frames():
        ours = frame["mda_writers"]
        if not ours.get("saved", True) or key not in journal.images:
            continue
        slots[key].append(slot_of(ours, BY_PLACE))
        planes[key].append(_plane(frame, bare=len(planes[key]) >= PLANES_DESCRIBED))
        if "offset_bytes" in ours:
            end = ours["offset_bytes"] + journal.images[key].frame_bytes
            ends[ours["file"]] = max(ends[ours["file"]], end)
    images = tuple(
        replace(
            image,
            sizes=fmt.final_sizes(image, [plane.place for plane in planes[key]]),
            files=fmt.files_of(planes[key]),
        )
        for key, image in journal.images.items()
        if key in planes
    )
    layout = replace(journal.layout, images=_cut_channels(images))
    about = fmt.finish(path.parent, layout, planes, journal.planes_laid_out)
    for key, image in journal.images.items():
        # no other file names it any more; a line that is lost may be about it
        if key not in planes and not journal.altered:
            fmt.discard(path.parent / image.file)
    if damaged:
        _look_for_damage(path.parent, fmt, layout)
    problems = _problems(journal, fmt, damaged)
    places = {key: [plane.place for plane in some] for key, some in planes.items()}
    runs = {i.key: runs_of(i.sizes, places[i.key], slots[i.key]) for i in images}
    return Finished(
        layout,
        {**journal.header, **(about or {})},
        places,
        runs,
        journal.load,
        _seals(path.parent, fmt, layout, journal.planes_laid_out, ends),
        problems,
    )


def _look_for_damage(folder: Path, fmt: Format, layout: Layout) -> None:
    """Find files whose final form is no better than what they were: they get no seal."""
    for image in layout.images:
        for name in image.all_files:
            if name in fmt.failures or not (folder / name).exists():
                continue
            with fmt.unfinished(name):
                if found := fmt.damage(folder / name, image):
                    raise CorruptRecordingError(found)


def _problems(journal: Journal, fmt: Format, damaged: bool) -> list[str]:
    """Return what was found damaged; raise what else kept a file from its final form."""
    for error in fmt.failures.values():
        if not damaged or (isinstance(error, OSError) and error.errno not in (None, ENOENT)):
            raise error
    found = [f"{file}: {error}" for file, error in fmt.failures.items()]
    if journal.altered:
        lines = ", ".join(map(str, journal.altered[:LINES_LISTED]))
        found.append(
            f"{journal.path.name}: {len(journal.altered)} altered lines were not taken for true "
            f"({lines}): the frames that they were about count as missing."
        )
    return found


def _seals(
    folder: Path,
    fmt: Format,
    layout: Layout,
    planes_laid_out: Mapping[str, int],
    ends: Mapping[str, int],
) -> dict[str, FileSeal]:
    seals = {}
    for image in layout.images:
        laid_out = planes_laid_out.get(image.key, 0)
        if not fmt.failures.keys().isdisjoint(image.all_files):
            continue
        # a file of a series may be elsewhere by now, and one that is damaged has no seal
        with suppress(FileNotFoundError, CorruptRecordingError, LookupError, ValueError):
            for name, pixels in fmt.described_files(folder, image, laid_out, ends):
                if name not in seals and (folder / name).exists():
                    seals[name] = FileSeal.of(folder / name, pixels)
    return seals


def _plane(frame: dict[str, Any], bare: bool) -> PlaneInfo:
    """Return what the files' final form needs of a frame; no more than its place, if `bare`."""
    if bare:
        ours = frame["mda_writers"]
        place, slot = tuple(ours["place"]), slot_of(ours, ours["number"])
        offset = ours.get("offset_bytes")
        return PlaneInfo(place, slot, file=ours.get("file", ""), offset_bytes=offset)
    return PlaneInfo.from_frame(frame)


def _cut_channels(images: tuple[ImageLayout, ...]) -> tuple[ImageLayout, ...]:
    return tuple(
        replace(image, channels=image.channels[: image.sizes.get("c", 1)]) for image in images
    )
