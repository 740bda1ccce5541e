"""The planes of an image that are on disk, as NGFF orders their axes, at any level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.formats.zarr_grid import NGFF_ORDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mda_writers.model.layout import ImageLayout


@dataclass(frozen=True, slots=True)
class TakenPlanes:
    """Some planes of one level.

    Attributes
    ----------
    axes : tuple of str
        Of t, c, z those that there are.
    sizes : tuple of int
        The level's sizes along them.
    places : np.ndarray
        Which planes there are, ``(planes, axes)``.
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    places: np.ndarray

    @classmethod
    def of(cls, image: ImageLayout, places: Sequence[tuple[int, ...]]) -> TakenPlanes:
        """Return the planes of the frames at `places` of an image with its final sizes."""
        found = np.array(places, int).reshape(len(places), len(image.sizes))
        columns = dict(zip(image.sizes, found.T, strict=True))
        sizes = dict(image.sizes)
        samples = image.frame_shape[2] if len(image.frame_shape) == 3 else 1
        if samples > 1:
            channel = columns.get("c", np.zeros(len(places), int))
            columns = {axis: np.repeat(column, samples) for axis, column in columns.items()}
            columns["c"] = (channel[:, np.newaxis] * samples + np.arange(samples)).reshape(-1)
            sizes["c"] = sizes.get("c", 1) * samples
        axes = tuple(axis for axis in NGFF_ORDER if axis in columns)
        table = np.zeros((len(places) * samples, len(axes)), int)
        for number, axis in enumerate(axes):
            table[:, number] = columns[axis]
        return cls(axes, tuple(sizes[axis] for axis in axes), table)

    def at_level(self, level: int, z_factor: int) -> TakenPlanes:
        """Return the planes of a level that these, of level 0, are part of."""
        if "z" not in self.axes or z_factor == 1 or level == 0:
            return self
        covered = z_factor**level
        places = self.places.copy()
        places[:, -1] //= covered
        sizes = (*self.sizes[:-1], -(-self.sizes[-1] // covered))
        return TakenPlanes(self.axes, sizes, np.unique(places, axis=0))
