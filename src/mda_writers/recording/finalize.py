"""The end of a recording, told by its journal alone: after a normal end and after a crash alike."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mda_writers.model.plane import PLANES_DESCRIBED, PlaneInfo, slot_of
from mda_writers.recording.runs import BY_PLACE, runs_of
from mda_writers.sinks.journal import Journal
from mda_writers.sinks.sidecar import journal_path

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.formats.format import Format
    from mda_writers.model.layout import ImageLayout, Layout


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
    """

    layout: Layout
    header: dict[str, Any]
    places: dict[str, list[tuple[int, ...]]]
    runs: dict[str, list[list[int]]]
    load: list[dict[str, Any]] = field(default_factory=list)


def finish_files(path: Path, fmt: Format) -> Finished:
    """Bring the files of the recording at `path` into their final form.

    What is done twice is done right: a finish that was itself killed can be repeated.
    """
    journal = Journal.read(journal_path(path))
    planes: defaultdict[str, list[PlaneInfo]] = defaultdict(list)
    slots: defaultdict[str, list[int]] = defaultdict(list)
    for key, frame in journal.frames():
        if not frame["mda_writers"].get("saved", True):
            continue
        slots[key].append(slot_of(frame["mda_writers"], BY_PLACE))
        planes[key].append(_plane(frame, bare=len(planes[key]) >= PLANES_DESCRIBED))
    for key, image in journal.images.items():
        if key not in planes:
            fmt.discard(path.parent / image.file)
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
    places = {key: [plane.place for plane in some] for key, some in planes.items()}
    runs = {i.key: runs_of(i.sizes, places[i.key], slots[i.key]) for i in images}
    return Finished(layout, {**journal.header, **(about or {})}, places, runs, journal.load)


def _plane(frame: dict[str, Any], bare: bool) -> PlaneInfo:
    """Return what the files' final form needs of a frame; no more than its place, if `bare`."""
    if bare:
        ours = frame["mda_writers"]
        place, slot = tuple(ours["place"]), slot_of(ours, ours["number"])
        return PlaneInfo(place, slot, file=ours.get("file", ""))
    return PlaneInfo.from_frame(frame)


def _cut_channels(images: tuple[ImageLayout, ...]) -> tuple[ImageLayout, ...]:
    return tuple(
        replace(image, channels=image.channels[: image.sizes.get("c", 1)]) for image in images
    )
