"""A level that has fewer planes along z, looked at as a recording of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.dataset.levels import level_depths
from mda_writers.recording.runs import dense

if TYPE_CHECKING:
    from mda_writers.dataset.sources import PixelSource
    from mda_writers.model.layout import ImageLayout


def level_images(
    source: PixelSource, images: tuple[ImageLayout, ...], level: int
) -> tuple[ImageLayout, ...]:
    """Return the images with the sizes that they have at a level."""
    return tuple(_at_level(image, level_depths(source, image), level) for image in images)


def _at_level(image: ImageLayout, depths: list[int], level: int) -> ImageLayout:
    depth = depths[min(level, len(depths) - 1)]
    if "z" not in image.sizes or image.sizes["z"] == depth:
        return image
    return replace(image, sizes={**image.sizes, "z": depth})


class LevelSource:
    """The planes of one level; a `PixelSource`.

    Parameters
    ----------
    source : PixelSource
        The recording.
    images : tuple of ImageLayout
        Its images at full resolution.
    level : int
        One that has fewer planes along z.
    """

    def __init__(self, source: PixelSource, images: tuple[ImageLayout, ...], level: int) -> None:
        self._source = source
        self._full = {image.key: image for image in images}
        self._images = {i.key: i for i in level_images(source, images, level)}

    def slots(self, key: str) -> np.ndarray:
        """Return the slot of every place; a plane is there if one of those it covers is."""
        sizes = self._images[key].sizes
        there = dense(self._source.slots(key)) >= 0
        if "z" in sizes:
            there = _any_of(there, list(sizes).index("z"), sizes["z"])
        return np.where(there, np.arange(there.size).reshape(there.shape), -1)

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return the planes of some slots."""
        return self._source.read(image, slots, level)

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every level that is stored."""
        return self._source.level_shapes(self._full[image.key])

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every level that is stored."""
        return level_depths(self._source, self._full[image.key])


def planes_covered(planes: int, depth: int) -> float:
    """Return how many planes of the full resolution one of `depth` planes covers.

    A power of two, as we write it; what it seems to be in files from elsewhere.
    """
    covered = 1
    while -(-planes // covered) > depth:
        covered *= 2
    return covered if -(-planes // covered) == depth else planes / depth


def _any_of(there: np.ndarray, axis: int, depth: int) -> np.ndarray:
    """Return whether any of the planes is there that each of `depth` planes covers."""
    covered = planes_covered(there.shape[axis], depth)
    starts = (np.arange(depth) * covered).astype(int)
    found: np.ndarray = np.logical_or.reduceat(there, starts, axis=axis)
    return found
