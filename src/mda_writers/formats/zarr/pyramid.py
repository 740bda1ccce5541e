"""Resolution levels: means of pixels, in the plane and along z."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.zarr.grid import NGFF_ORDER
from mda_writers.formats.zarr.options import level_depths
from mda_writers.formats.zarr.shards import stored_level

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.zarr.options import ZarrOptions
    from mda_writers.formats.zarr.shards import Place, StoredLevel
    from mda_writers.model.layout import ImageLayout
    from mda_writers.storage.object_path import ObjectPath


ROWS = 64
"""Rows of the smaller level that are computed at once: what is in between stays in the cache."""

_SUM_TYPES = {
    "b1": "u4",
    "u1": "u2",
    "u2": "u4",
    "u4": "u8",
    "u8": "u8",
    "i1": "i4",
    "i2": "i4",
    "i4": "i8",
    "i8": "i8",
}
"""Pixel type → what its sums fit into. Those of 64 bits are split into two halves before."""

# Smaller levels of an image: each pixel the mean of 2 × 2 of the level above.
#
# Integers are rounded to the nearest, halves upwards: ``floor((a + b + c + d + 2) / 4)``, without
# any overflow. Floats are averaged in their own precision. An odd last row or column is averaged
# with itself, so that nothing is left out: sizes are halved and rounded up.


def z_steps(planes: int | None, z_factor: int, levels: int) -> list[int]:
    """Return how many planes of the first level lie between two neighbours of each level.

    Where one plane is left, it is not said to be thicker on the levels below. `planes` is None
    while nobody knows how many will come.
    """
    depths = [2] * levels if planes is None else level_depths(planes, z_factor, levels)
    steps = [1]
    for depth in depths[: levels - 1]:
        steps.append(steps[-1] * (z_factor if depth > 1 else 1))
    return steps


def halve(plane: np.ndarray) -> np.ndarray:
    """Return `plane` ``(y, x)`` at half its size, of the same dtype."""
    if plane.shape[0] % 2 or plane.shape[1] % 2:
        plane = np.pad(plane, [(0, n % 2) for n in plane.shape], mode="edge")
    plane = np.ascontiguousarray(plane)
    small = np.empty((plane.shape[0] // 2, plane.shape[1] // 2), plane.dtype)
    mean = _mean_in_words if plane.dtype in WORDS else _mean
    for top in range(0, len(small), ROWS):
        rows = slice(top, top + ROWS)
        mean(plane[2 * top : 2 * (top + ROWS)], small[rows])
    return small


WORDS: dict[Any, tuple[Any, int]] = {
    np.dtype("uint8"): (np.uint16, 8),
    np.dtype("uint16"): (np.uint32, 16),
}
"""Unsigned types whose neighbours in x are read as one word of twice the size."""


def sums_in_words(rows: np.ndarray) -> np.ndarray:
    """Return the sums of 2 × 2 pixels, as words; the rows are contiguous, their sizes even.

    With contiguous operations only, three times as fast as with strides: a word holds two
    neighbours; its halves are added, and two rows of such sums.
    """
    word, bits = WORDS[rows.dtype]
    words = rows.view(word)
    low = word((1 << bits) - 1)
    right = words & low
    total: np.ndarray = right[0::2] + right[1::2]
    high = words >> word(bits)
    total += high[0::2]
    total += high[1::2]
    return total


def _mean_in_words(rows: np.ndarray, small: np.ndarray) -> None:
    total = sums_in_words(rows)
    total += total.dtype.type(2)
    total >>= total.dtype.type(2)
    small[...] = total


def _mean(rows: np.ndarray, small: np.ndarray) -> None:
    a, b = rows[0::2, 0::2], rows[0::2, 1::2]
    c, d = rows[1::2, 0::2], rows[1::2, 1::2]
    if rows.dtype.kind == "b":
        small[...] = a.astype(np.uint8) + b + c + d >= 2
    elif rows.dtype.kind in "iu":
        _mean_of_integers(a, b, c, d, small)
    else:
        # quarters first: four of the largest floats overflow nothing, and dividing by 4 is exact
        quarter = rows.dtype.type(0.25)
        small[...] = (a * quarter + b * quarter) + (c * quarter + d * quarter)


def _mean_of_integers(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, small: np.ndarray
) -> None:
    """Add quarters and remainders apart: four of the largest integers overflow nothing."""
    quarters = (a >> 2) + (b >> 2) + (c >> 2) + (d >> 2)
    rest = (a & 3) + (b & 3) + (c & 3) + (d & 3)
    small[...] = quarters + ((rest + 2) >> 2)


# The mean of several planes and of 2 × 2 of their pixels: sums first, one rounding last.
#
# Integers are rounded to the nearest, halves upwards, without any overflow: ``floor(sum / n +
# 1/2)``. Floats are summed in double precision, plane after plane, and rounded once to their own.
# An odd last row or column counts twice, as in ``pyramid.py``.


def sums_of(plane: np.ndarray, most_planes: int) -> np.ndarray:
    """Return the sums of 2 × 2 pixels, to be added to those of other planes.

    At most `most_planes`, a power of two, will be added. Returns ``(parts, y, x)``: upper and lower
    half of integers of 64 bits, one part for all others.
    """
    if plane.shape[0] % 2 or plane.shape[1] % 2:
        plane = np.pad(plane, [(0, n % 2) for n in plane.shape], mode="edge")
    if plane.dtype in WORDS:
        return _added_in_words(np.ascontiguousarray(plane))
    if plane.dtype.kind in "fc":
        wide = np.result_type(plane.dtype, np.float64)
        # a share of the mean: the largest doubles overflow nothing, and a power of two is exact
        return _added(plane * wide.type(0.25 / most_planes), wide)
    wide = np.dtype(_SUM_TYPES[plane.dtype.str[1:]])
    if plane.dtype.itemsize < 8:
        return _added(plane, wide)
    upper, lower = plane >> 32, plane & 0xFFFFFFFF
    return np.concatenate([_added(upper, wide), _added(lower, wide)])


def mean_of(total: np.ndarray, planes: int, most_planes: int, dtype: np.dtype) -> np.ndarray:
    """Return the mean of `planes` planes, whose sums are `total`.

    That is, what `sums_of` returned for the same `most_planes`, added up.
    """
    if dtype.kind in "fc":
        share = planes / most_planes
        return np.asarray(total[0] / share if share < 1 else total[0], dtype)
    pixels = 4 * planes
    if len(total) == 1:
        return np.asarray(_divided(total[0], pixels), dtype)
    upper, rest = np.divmod(total[0], total.dtype.type(pixels))
    return np.asarray((upper << 32) + _divided((rest << 32) + total[1], pixels), dtype)


def _added_in_words(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    sums = np.empty((1, height // 2, width // 2), WORDS[plane.dtype][0])
    for top in range(0, height // 2, ROWS):
        sums[0, top : top + ROWS] = sums_in_words(plane[2 * top : 2 * (top + ROWS)])
    return sums


def _added(plane: np.ndarray, wide: np.dtype) -> np.ndarray:
    """Return the sums of 2 × 2 pixels in another type, ``(1, y, x)``."""
    pairs = np.add(plane[:, 0::2], plane[:, 1::2], dtype=wide)
    sums: np.ndarray = (pairs[0::2] + pairs[1::2])[np.newaxis]
    return sums


def _divided(total: np.ndarray, pixels: int) -> np.ndarray:
    """Return ``floor(total / pixels + 1/2)``; an even number of pixels has a whole half."""
    rounded: np.ndarray = total + total.dtype.type(pixels // 2)
    if pixels & (pixels - 1):
        rounded //= total.dtype.type(pixels)
    else:
        rounded >>= total.dtype.type(pixels.bit_length() - 1)
    return rounded


# The levels of a recording that are smaller in z, too.
#
# A plane of such a level is the mean of the planes of its slab that were taken. All of them are
# made at the end, from the level above, by whoever completes the recording.


def complete_levels(
    folders: Sequence[Path] | Sequence[ObjectPath],
    image: ImageLayout,
    taken: TakenPlanes,
    options: ZarrOptions,
) -> None:
    """Make all planes of the smaller levels of an image that has an axis z.

    `folders` are its arrays, level 0 first; `taken` the planes of level 0 that are on disk.
    """
    levels = [stored_level(folder, image.dtype, options) for folder in folders]
    there: Iterable[Place] = map(tuple, taken.places.tolist())
    for above, level in pairwise(levels):
        slabs = _slabs(there, options.z_factor)
        level.write(slabs, _Mean(above, slabs, options.z_factor))
        there = slabs


def level_unlike_above(
    folders: Sequence[Path], image: ImageLayout, taken: TakenPlanes, options: ZarrOptions
) -> str:
    """Return which plane of a smaller level is not the mean of those above it; "" if all are."""
    levels = [stored_level(folder, image.dtype, options) for folder in folders]
    there: list[Place] = [tuple(place) for place in taken.places.tolist()]
    in_z = options.z_factor > 1 and "z" in image.sizes
    for number, (above, level) in enumerate(pairwise(levels), 1):
        slabs = _slabs(there, options.z_factor) if in_z else {place: [place] for place in there}
        mean = _Mean(above, slabs, options.z_factor) if in_z else _Half(above)
        for slab in slabs:
            found, expected = level.read(slab), mean(slab)
            if found.shape != expected.shape or found.tobytes() != expected.tobytes():
                return f"plane {slab} of level {number} is not the mean of those above"
        there = list(slabs)
    return ""


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
