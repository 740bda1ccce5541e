"""Where images lie beside one another: rows and columns from the stage's coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mda_writers.model.layout import ImageLayout

SAME_UM = 0.01
"""Coordinates that differ by less are one and the same row or column."""


def rows_and_columns(images: Iterable[ImageLayout]) -> dict[str, tuple[int, int]]:
    """Return key → (row, column) of the images whose stage position is known.

    As in useq's grids, row 0 is at the top, where y is largest, and column 0 where x is smallest.
    """
    known = {i.key: i.position_um for i in images if has_position(i)}
    xs = _distinct(p[0] for p in known.values() if p and p[0] is not None)
    ys = _distinct(p[1] for p in known.values() if p and p[1] is not None)
    tiles = {}
    for key, position in known.items():
        assert position is not None and position[0] is not None and position[1] is not None
        row = len(ys) - 1 - int(np.abs(ys - position[1]).argmin())
        tiles[key] = (row, int(np.abs(xs - position[0]).argmin()))
    return tiles


def has_position(image: ImageLayout) -> bool:
    """Whether the plan names the image's place in x and in y."""
    position = image.position_um
    return position is not None and position[0] is not None and position[1] is not None


def _distinct(values: Iterable[float]) -> np.ndarray:
    ordered = np.sort(np.fromiter(values, float))
    return ordered[np.diff(ordered, prepend=-np.inf) > SAME_UM]
