"""The end of a recording, told by its journal alone: after a normal end and after a crash alike."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from mda_writers.model.plane import PlaneInfo
from mda_writers.sinks.journal import Journal
from mda_writers.sinks.sidecar import journal_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout, Layout


class Format(Protocol):
    """What a format does besides its arrays: the files' final form."""

    name: str

    def final_sizes(self, image: ImageLayout, places: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Return the sizes of what was really taken."""

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> None:
        """Bring the files of all images into their final form."""

    def discard(self, path: Path) -> None:
        """Remove the file or folder of an image without frames."""


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
    """

    layout: Layout
    header: dict[str, Any]
    places: dict[str, list[tuple[int, ...]]]


def finish_files(path: Path, fmt: Format) -> Finished:
    """Bring the files of the recording at `path` into their final form.

    What is done twice is done right: a finish that was itself killed can be repeated.
    """
    journal = Journal.read(journal_path(path))
    planes: defaultdict[str, list[PlaneInfo]] = defaultdict(list)
    for key, frame in journal.frames():
        planes[key].append(PlaneInfo.from_frame(frame))
    for key, image in journal.images.items():
        if key not in planes:
            fmt.discard(path.parent / image.file)
    images = tuple(
        replace(image, sizes=fmt.final_sizes(image, [plane.place for plane in planes[key]]))
        for key, image in journal.images.items()
        if key in planes
    )
    layout = replace(journal.layout, images=_cut_channels(images))
    fmt.finish(path.parent, layout, planes, journal.planes_laid_out)
    return Finished(
        layout, journal.header, {key: [p.place for p in some] for key, some in planes.items()}
    )


def _cut_channels(images: tuple[ImageLayout, ...]) -> tuple[ImageLayout, ...]:
    return tuple(
        replace(image, channels=image.channels[: image.sizes.get("c", 1)]) for image in images
    )
