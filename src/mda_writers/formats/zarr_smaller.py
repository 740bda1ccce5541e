"""The levels of a recording that are smaller in z, too, in their final form.

A plane of such a level is the mean of the planes of its slab that were taken. While frames come it
is written when its slab has all of the planned planes; what lacks then is made here, from the level
above: slabs that the plan, the end of the run or a kill left incomplete, and those that were given
up because too many were open at once.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.formats.pyramid import halve
from mda_writers.formats.voxel_mean import mean_of, sums_of
from mda_writers.formats.zarr_stored import stored_level

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.taken_planes import TakenPlanes
    from mda_writers.formats.zarr_options import ZarrOptions
    from mda_writers.formats.zarr_stored import Place, StoredLevel
    from mda_writers.model.layout import ImageLayout
    from mda_writers.storage.object_path import ObjectPath


def complete_levels(
    folders: Sequence[Path] | Sequence[ObjectPath],
    image: ImageLayout,
    taken: TakenPlanes,
    options: ZarrOptions,
) -> None:
    """Make all planes of the smaller levels that lack, or were made of other planes.

    Comes before the arrays get their final shapes: those that were planned tell how many planes
    a slab had to have. What is done twice is done right.

    Parameters
    ----------
    folders : sequence of Path or ObjectPath
        The arrays, level 0 first.
    image : ImageLayout
        The image, which has an axis z.
    taken : TakenPlanes
        The planes of level 0 that are on disk.
    options : ZarrOptions
        How they are stored.
    """
    levels = [stored_level(folder, image.dtype, options) for folder in folders]
    there: Iterable[Place] = map(tuple, taken.places.tolist())
    made_anew: set[Place] = set()
    for above, level in pairwise(levels):
        slabs = _slabs(there, options.z_factor)
        complete = level.places()
        made_anew = {
            slab
            for slab, planes in slabs.items()
            if slab not in complete
            or len(planes) != _planned(slab, image, above, options.z_factor)
            or not made_anew.isdisjoint(planes)
        }
        if made_anew:
            level.complete(slabs, made_anew, _Mean(above, slabs, options.z_factor))
        there = slabs


def level_unlike_above(
    folders: Sequence[Path], image: ImageLayout, taken: TakenPlanes, options: ZarrOptions
) -> str:
    """Return which plane of a smaller level is not the mean of those above it; "" if all are.

    Parameters
    ----------
    folders, image, taken, options
        As for `complete_levels`.
    """
    levels = [stored_level(folder, image.dtype, options) for folder in folders]
    there: list[Place] = [tuple(place) for place in taken.places.tolist()]
    in_z = options.z_factor > 1 and "z" in image.sizes
    for number, (above, level) in enumerate(pairwise(levels), 1):
        slabs = _slabs(there, options.z_factor) if in_z else {place: [place] for place in there}
        mean = _Mean(above, slabs, options.z_factor) if in_z else _Half(above)
        for slab in slabs:
            found, expected = level.read(slab), mean(slab)
            # sums of floats depend on the order in which planes came
            exact = not in_z or found.dtype.kind not in "fc"
            same = _is_same(found, expected) if exact else np.allclose(found, expected)
            if not same:
                return f"plane {slab} of level {number} is not the mean of those above"
        there = list(slabs)
    return ""


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _planned(slab: Place, image: ImageLayout, above: StoredLevel, z_factor: int) -> int:
    """Return how many planes a slab had to have to be written while frames came."""
    if image.growing:
        return z_factor
    return min(z_factor, above.sizes[-1] - slab[-1] * z_factor)


class _Mean:
    """Makes planes from those of the level above, one after the other."""

    def __init__(
        self, above: StoredLevel, slabs: Mapping[Place, Sequence[Place]], z_factor: int
    ) -> None:
        self._above = above
        self._slabs = slabs
        self._z_factor = z_factor

    def __call__(self, slab: Place) -> np.ndarray:
        planes = self._slabs[slab]
        total = sums_of(self._above.read(planes[0]), self._z_factor)
        for place in planes[1:]:
            total += sums_of(self._above.read(place), self._z_factor)
        return mean_of(total, len(planes), self._z_factor, np.dtype(self._above.grid.dtype))


class _Half:
    """Makes planes from the same of the level above."""

    def __init__(self, above: StoredLevel) -> None:
        self._above = above

    def __call__(self, place: Place) -> np.ndarray:
        return halve(self._above.read(place))


def _slabs(places: Iterable[Place], z_factor: int) -> dict[Place, list[Place]]:
    """Return the planes of each slab, in the order of z."""
    slabs: defaultdict[Place, list[Place]] = defaultdict(list)
    for place in sorted(places):
        slabs[*place[:-1], place[-1] // z_factor].append(place)
    return dict(slabs)
