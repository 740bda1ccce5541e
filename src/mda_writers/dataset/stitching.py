"""Tiles and positions laid beside one another, as they lay on the stage."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.coordinates import CoordinateError
from mda_writers.dataset.frame_grid import FrameGrid, whole_index
from mda_writers.dataset.tiles import has_position, rows_and_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mda_writers.dataset.coordinates import Coordinates
    from mda_writers.dataset.sources import PixelSource
    from mda_writers.model.layout import ImageLayout

TILE_AXES = ("p", "g", "row", "col")


class Mosaic:
    """Looks like an array; one wide frame made of those of all positions and tiles.

    A frame lies where the stage was planned to be: x grows to the right and, as in useq's
    grids, y grows upwards. Places are rounded to whole pixels of the level. Where frames
    overlap, the one of the later position or tile is on top; gaps and missing frames are
    `fill_value`. Without a pixel size, tiles lie side by side by row and column.

    Parameters
    ----------
    source, coordinates, axes, fixed, fill_value, level
        As for `FrameGrid`; those among `axes` that are in `TILE_AXES` are laid out.
    pixel_size_um : float or None
        At full resolution.

    Raises
    ------
    CoordinateError
        If there is nothing to lay out, or positions are unknown.
    """

    def __init__(
        self,
        source: PixelSource,
        coordinates: Coordinates,
        axes: Mapping[str, Sequence[Any]],
        fixed: Mapping[str, Any],
        fill_value: float,
        level: int,
        pixel_size_um: float | None,
    ) -> None:
        laid_out = {axis: list(axes[axis]) for axis in TILE_AXES if axis in axes}
        rest = {axis: values for axis, values in axes.items() if axis not in laid_out}
        if not laid_out:
            raise CoordinateError("stitched: there is no axis p, g, row or col to lay out here.")
        self._fill = fill_value
        self._tiles: list[FrameGrid] = []
        images: list[ImageLayout] = []
        for where in np.ndindex(*(len(values) for values in laid_out.values())):
            chosen = {a: v[n] for (a, v), n in zip(laid_out.items(), where, strict=True)}
            try:
                tile = FrameGrid(source, coordinates, rest, {**fixed, **chosen}, fill_value, level)
            except CoordinateError:  # grids of other sizes at other positions
                continue
            self._tiles.append(tile)
            images.append(tile.images[0])
        first = _same_kind(self._tiles)
        self._corners = _corners(images, first.frame_shape, pixel_size_um, level)
        self.dtype = first.dtype
        height, width = self._corners.max(axis=0) + first.frame_shape[:2]
        self._leading = len(rest)
        self._frame_shape = first.frame_shape
        self.shape = (
            *first.shape[: self._leading],
            int(height),
            int(width),
            *first.frame_shape[2:],
        )
        self.ndim = len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        index = whole_index(index, self.ndim)
        # integers as slices of one, until all is in place
        spans = [slice(i, i + 1) if isinstance(i, int) else i for i in index]
        wanted = [np.arange(n)[s] for s, n in zip(spans, self.shape, strict=True)]
        rows, columns = wanted[self._leading : self._leading + 2]
        window = _around(rows), _around(columns)
        canvas = self._paint(spans[: self._leading], *window)
        for n, chosen, span in zip((0, 1), (rows, columns), window, strict=True):
            if len(chosen) != span.stop - span.start:
                canvas = canvas.take(chosen - span.start, self._leading + n)
        canvas = canvas[(slice(None),) * (self._leading + 2) + tuple(spans[self._leading + 2 :])]
        return np.asarray(canvas[tuple(0 if isinstance(i, int) else slice(None) for i in index)])

    def _paint(self, leading: list[slice], rows: slice, columns: slice) -> np.ndarray:
        """Return a window of the mosaic, painting the tiles that reach into it in their order."""
        lengths = [len(range(*s.indices(n))) for s, n in zip(leading, self.shape, strict=False)]
        height, width = rows.stop - rows.start, columns.stop - columns.start
        canvas = np.full((*lengths, height, width, *self._frame_shape[2:]), self._fill, self.dtype)
        for tile, (top, left) in zip(self._tiles, self._corners, strict=True):
            ys = _overlap(top, self._frame_shape[0], rows)
            xs = _overlap(left, self._frame_shape[1], columns)
            if ys is None or xs is None:
                continue
            there = tile.there(tuple(leading))
            if there.any() or not lengths:
                pixels = tile[(*leading, ys[0], xs[0])]
                window = canvas[(*[slice(None)] * len(lengths), ys[1], xs[1])]
                window[there] = pixels[there]
        return canvas


def _around(indices: np.ndarray) -> slice:
    """Return the shortest slice that holds some increasing indices."""
    return slice(int(indices[0]), int(indices[-1]) + 1) if len(indices) else slice(0, 0)


def _overlap(start: int, length: int, window: slice) -> tuple[slice, slice] | None:
    """Return the part of a tile that lies in a window, and the part of the window that it fills."""
    first, last = max(start, window.start), min(start + length, window.stop)
    if first >= last:
        return None
    return slice(first - start, last - start), slice(first - window.start, last - window.start)


def _same_kind(tiles: list[FrameGrid]) -> FrameGrid:
    kinds = {(tile.frame_shape, tile.dtype.name) for tile in tiles}
    if len(kinds) != 1:
        raise CoordinateError(f"stitched: the tiles differ in shape or type ({kinds}).")
    return tiles[0]


def _corners(
    images: list[ImageLayout], frame_shape: tuple[int, ...], pixel_size_um: float | None, level: int
) -> np.ndarray:
    """Return (row, column) of each tile's first pixel in the mosaic."""
    unknown = [image.name for image in images if not has_position(image)]
    if unknown:
        raise CoordinateError(
            f"stitched: the plan does not say where these are: {', '.join(unknown[:20])}."
        )
    if pixel_size_um is None:
        tiles = rows_and_columns(images)
        return np.multiply([tiles[image.key] for image in images], frame_shape[:2])
    # centres; frames of one size, so that their corners lie as their centres do
    at_um = np.array([image.position_um[:2] for image in images if image.position_um], float)
    at_um = np.stack([at_um[:, 1].max() - at_um[:, 1], at_um[:, 0] - at_um[:, 0].min()], axis=1)
    corners: np.ndarray = np.rint(at_um / (pixel_size_um * 2**level)).astype(int)
    if prod(corners.max(axis=0) + frame_shape[:2]) > 1 << 48:
        raise CoordinateError("stitched: the positions lie too far apart for one picture.")
    return corners
