"""Smaller levels of an image: each pixel the mean of 2 × 2 of the level above.

Integers are rounded to the nearest, halves upwards: ``floor((a + b + c + d + 2) / 4)``, without
any overflow. Floats are averaged in their own precision. An odd last row or column is averaged
with itself, so that nothing is left out: sizes are halved and rounded up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 64
"""Rows of the smaller level that are computed at once: what is in between stays in the cache."""


def level_sizes(yx: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """Return height and width of each level, the first as given."""
    sizes = [yx]
    while len(sizes) < levels:
        y, x = sizes[-1]
        sizes.append(((y + 1) // 2, (x + 1) // 2))
    return sizes


def level_depths(planes: int, z_factor: int, levels: int) -> list[int]:
    """Return the planes along z of each level, the first as given; the last slab may be thinner."""
    depths = [planes]
    while len(depths) < levels:
        depths.append(-(-depths[-1] // z_factor))
    return depths


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


def auto_levels(yx: tuple[int, int], smallest: int = 256) -> int:
    """Return how many levels it takes until one fits into `smallest` pixels on each side."""
    levels = 1
    while max(level_sizes(yx, levels)[-1]) > smallest:
        levels += 1
    return levels


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
