"""The mean of several planes and of 2 × 2 of their pixels: sums first, one rounding last.

Integers are rounded to the nearest, halves upwards, without any overflow:
``floor(sum / n + 1/2)``. Floats are summed in double precision, plane after plane, and rounded
once to their own. An odd last row or column counts twice, as in ``pyramid.py``.
"""

from __future__ import annotations

import numpy as np

from mda_writers.formats.pyramid import ROWS, WORDS, sums_in_words

MOST_PLANES = 64
"""Planes of one mean at most: the sums of ``2 × 2 × 64`` pixels fit into the types below."""

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


def sums_of(plane: np.ndarray, most_planes: int) -> np.ndarray:
    """Return the sums of 2 × 2 pixels, to be added to those of other planes.

    Parameters
    ----------
    plane : np.ndarray
        ``(y, x)``.
    most_planes : int
        How many planes will be added at most; a power of two.

    Returns
    -------
    np.ndarray
        ``(parts, y, x)``: upper and lower half of integers of 64 bits, one part for all others.
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

    Parameters
    ----------
    total : np.ndarray
        What `sums_of` returned, added up.
    planes : int
        How many they were.
    most_planes : int
        As given to `sums_of`.
    dtype : np.dtype
        Pixel type.
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
