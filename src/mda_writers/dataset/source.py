"""Where a dataset gets its frames from: what every source can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mda_writers.formats.zarr.options import auto_levels, level_sizes
from mda_writers.formats.zarr.pyramid import halve
from mda_writers.model.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.slots import Slots


MISSING = -1
"""The slot of a place where there is no frame."""

LEFT_OUT = -3
"""The slot of a frame that came and was not to be kept (``save_frame``): it is not missing."""

Frame = tuple[str, tuple[int, ...]]
"""A frame: its image's key, and its place within the image."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known about a recording as a whole, at one moment.

    Attributes
    ----------
    layout : Layout
        Its images, their sizes as far as they are known.
    summary_metadata : dict
        The ``SummaryMetaV1``, or what a third-party file says about itself.
    sequence : dict or None
        The ``MDASequence``, as JSON, where there was one.
    report : dict or None
        The report of a recording that has ended.
    complete : bool
        Whether every planned frame is on disk.
    lost : tuple of dict
        Coordinates of frames that belong here, and whose image has no file at all.
    """

    layout: Layout = field(default_factory=Layout)
    summary_metadata: dict[str, Any] = field(default_factory=dict)
    sequence: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    complete: bool = True
    lost: tuple[dict[str, Any], ...] = ()


class PixelSource(Protocol):
    """Pixels by slot."""

    def slots(self, key: str) -> Slots:
        """Return the slot of every place of an image: negative where there is no frame.

        `MISSING` or `LEFT_OUT`, that is. Any other slot is whatever number `read` takes;
        consecutive slots are read fastest.
        """

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return the frames of some slots (one dimension), ``(n, y, x)`` or ``(n, y, x, 3)``.

        The result is an array of the caller's own, or a view of a file that cannot be written to.
        """

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every resolution that is stored, the full one first."""

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every resolution that is stored."""


class FrameSource(PixelSource, Protocol):
    """One recording, finished or not, ours or somebody else's."""

    @property
    def contents(self) -> Contents:
        """What is known by now."""

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return what is known about one frame."""

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame."""

    def lost(self, image: ImageLayout) -> Set[tuple[int, ...]]:
        """Return the places of an image whose frames were stored, and whose file is gone.

        Or another recording's file has taken its place.
        """

    def refresh(self) -> list[Frame]:
        """Look for news; return the frames that came, in order of arrival."""

    def is_live(self) -> bool:
        """Whether more may come: the recording has not ended, and its writer lives."""

    def close(self) -> None:
        """Let go of all files."""


class Planes(Protocol):
    """The pixels of a recording of ours, whose frames and metadata the journal knows."""

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return what `read` takes, from every frame's number in its file.

        Negative numbers, where there is no frame, stay as they are.
        """

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """As in `FrameSource`."""

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """As in `FrameSource`."""

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every resolution that is stored."""

    def close(self) -> None:
        """Let go of all files."""


class StaticSource:
    """A `FrameSource` whose slots are the places, counted in the order of the axes."""

    contents = Contents()

    def slots(self, key: str) -> np.ndarray:
        """Return the slot of every place: all are filled."""
        sizes = tuple(self.contents.layout.image(key).sizes.values())
        return np.arange(prod(sizes)).reshape(sizes)

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the full resolution."""
        return [image.frame_shape]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every resolution that is stored: all of them."""
        return [image.sizes.get("z", 1)] * len(self.level_shapes(image))

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return nothing: there is no sidecar."""
        return {}

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return every frame, with its place."""
        for image in self.contents.layout.images:
            for place in np.argwhere(self.slots(image.key) >= 0):
                where = tuple(map(int, place))
                yield image.key, {**self.metadata(image, where), "mda_writers": {"place": where}}

    def lost(self, image: ImageLayout) -> Set[tuple[int, ...]]:
        """Return nothing: what is not there has no slot."""
        return frozenset()

    def refresh(self) -> list[Frame]:
        """Nothing comes any more."""
        return []

    def is_live(self) -> bool:
        """Tell that nothing comes any more."""
        return False

    def close(self) -> None:
        """Nothing to let go of."""


def level_shapes(source: PixelSource, image: ImageLayout) -> list[tuple[int, ...]]:
    """Return the frame shape of every level: the stored ones, and halves until one is small."""
    stored = list(source.level_shapes(image))
    smallest, samples = stored[-1][:2], stored[-1][2:]
    further = level_sizes((smallest[0], smallest[1]), auto_levels((smallest[0], smallest[1])))
    return [*stored, *((*yx, *samples) for yx in further[1:])]


def read_level(
    source: PixelSource, image: ImageLayout, slots: np.ndarray, level: int
) -> np.ndarray:
    """Return the frames of some slots at a level, computed from a stored one where need be."""
    if level == 0:
        return source.read(image, slots)
    stored = len(source.level_shapes(image)) - 1
    frames = source.read(image, slots, min(level, stored))
    for _ in range(level - stored):
        frames = np.stack([_halved(frame) for frame in frames])
    return frames


def _halved(frame: np.ndarray) -> np.ndarray:
    if frame.ndim == 2:
        return halve(frame)
    return np.stack([halve(frame[..., n]) for n in range(frame.shape[2])], axis=-1)
