"""Frames as Dask arrays: grids of frames, levels, stitched positions."""

from __future__ import annotations

import uuid
from dataclasses import replace
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.coordinates import has_position, rows_and_columns
from mda_writers.dataset.source import level_shapes, read_level
from mda_writers.errors import CoordinateError
from mda_writers.model.layout import AXES
from mda_writers.model.slots import FewSlots, dense

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mda_writers.dataset.coordinates import Coordinates, Value
    from mda_writers.dataset.source import PixelSource
    from mda_writers.model.layout import ImageLayout


TILE_AXES = ("p", "g", "row", "col")

CHUNK_BYTES = 64 << 20
"""What a chunk holds. Slices of one are read alone: Dask fuses the slice with the reading."""

MOST_CHUNKS = 10_000
"""A task costs Dask about 0.1 ms and 1 kB; beyond, chunks grow."""


class FrameGrid:
    """Looks like an array; ``grid[…]`` with integers and slices reads pixels.

    Parameters
    ----------
    source : PixelSource
        Where frames come from.
    coordinates : Coordinates
        Finds them.
    axes : mapping
        Axis → chosen values, in the order of the array's axes; y and x follow.
    fixed : mapping
        Axis → the one chosen value, for axes that the array does not have.
    fill_value : number
        Stands for the pixels of missing frames.
    level : int
        Resolution, 0 is the full one.
    """

    def __init__(
        self,
        source: PixelSource,
        coordinates: Coordinates,
        axes: Mapping[str, Sequence[Value]],
        fixed: Mapping[str, Value],
        fill_value: float = 0,
        level: int = 0,
    ) -> None:
        self._source = source
        self._coordinates = coordinates
        self._axes = {
            axis: values if isinstance(values, range) else list(values)
            for axis, values in axes.items()
        }
        self._fixed = dict(fixed)
        self._fill = fill_value
        self._level = level
        image = self._common_image()
        self.frame_shape = level_shapes(source, image)[level]
        self.dtype = np.dtype(image.dtype)
        self.shape = (*(len(values) for values in self._axes.values()), *self.frame_shape)
        self.ndim = len(self.shape)

    @property
    def images(self) -> list[ImageLayout]:
        """The images that the grid has frames of."""
        found = (self._image(outer) for outer in self._outer_indices(self._axes))
        return [image for image in found if image is not None]

    def __getitem__(self, index: Any) -> np.ndarray:
        index = whole_index(index, self.ndim)
        leading = len(self._axes)
        block = self._read(self._chosen(index))
        dropped = tuple(0 if isinstance(i, int) else slice(None) for i in index[:leading])
        return block[(*dropped, *index[leading:])]

    def there(self, index: tuple[slice, ...]) -> np.ndarray:
        """Return which frames are on disk, in the shape of the axes before y and x."""
        chosen = self._chosen(index)
        outer = [axis for axis in chosen if axis not in AXES]
        mask = np.zeros([len(values) for values in chosen.values()], bool)
        by_image = np.moveaxis(mask, [list(chosen).index(a) for a in outer], range(len(outer)))
        lengths = [len(chosen[axis]) for axis in outer]
        for where, indices in zip(np.ndindex(*lengths), self._outer_indices(chosen), strict=True):
            by_image[where] = self._slots(indices, chosen) >= 0
        return mask

    # ------------------------------------------------------------ reading

    def _chosen(self, index: tuple[Any, ...]) -> dict[str, list[Value]]:
        return {
            axis: _at(values, i)
            for (axis, values), i in zip(self._axes.items(), index, strict=False)
        }

    def _read(self, chosen: dict[str, list[Value]]) -> np.ndarray:
        """Return the pixels of a box of coordinates; a view of the file where that is possible."""
        shape = (*(len(values) for values in chosen.values()), *self.frame_shape)
        outer = [axis for axis in chosen if axis not in AXES]
        if prod(len(chosen[axis]) for axis in outer) == 1:
            (only,) = self._outer_indices(chosen)
            slots = self._slots(only, chosen)
            image = self._image(only)
            if image is not None and slots.size and slots.min() >= 0:
                return self._frames(image, slots.ravel()).reshape(shape)
        # zeros take no memory where nothing is written, as in a box that is nearly empty
        block = np.zeros(shape, self.dtype)
        if self._fill:
            block[...] = self._fill
        # outer axes first, so that one index along them is all that an image has to fill
        positions = [list(chosen).index(axis) for axis in outer]
        by_image = np.moveaxis(block, positions, range(len(outer)))
        lengths = [len(chosen[axis]) for axis in outer]
        for where, indices in zip(np.ndindex(*lengths), self._outer_indices(chosen), strict=True):
            self._fill_in(by_image[where], indices, chosen)
        return block

    def _fill_in(
        self, target: np.ndarray, outer: tuple[int, ...], chosen: dict[str, list[Value]]
    ) -> None:
        slots = self._slots(outer, chosen)
        image = self._image(outer)
        there = slots >= 0
        if image is not None and there.any():
            target[there] = self._frames(image, slots[there])

    def _frames(self, image: ImageLayout, slots: np.ndarray) -> np.ndarray:
        return read_level(self._source, image, slots, self._level)

    def _slots(self, outer: tuple[int, ...], chosen: dict[str, list[Value]]) -> np.ndarray:
        """Return the slots of one image's frames, in the order of the array's inner axes."""
        inner = [axis for axis in chosen if axis in AXES]
        image = self._image(outer)
        if image is None:
            return np.full([len(chosen[axis]) for axis in inner], -1)
        slots = self._source.slots(image.key)
        lacking = [axis for axis in image.sizes if axis not in inner]
        order = [axis for axis in inner if axis in image.sizes] + lacking
        at = {
            axis: self._indices(
                axis, chosen[axis] if axis in inner else [self._fixed.get(axis, 0)], image
            )
            for axis in order
        }
        if isinstance(slots, FewSlots):
            slots = slots.box([at[axis] for axis in image.sizes])
            slots = slots.transpose([list(image.sizes).index(axis) for axis in order])
        else:
            slots = slots.transpose([list(image.sizes).index(axis) for axis in order])
            for n, axis in enumerate(order):
                slots = _take(slots, at[axis], n)
        slots = slots.reshape(slots.shape[: sum(a in inner for a in order)])
        for n, axis in enumerate(inner):
            if axis not in image.sizes:
                first = np.array(self._indices(axis, chosen[axis], image)) == 0
                slots = np.where(
                    first.reshape([-1] + [1] * (slots.ndim - n)), np.expand_dims(slots, n), -1
                )
        return self._without_fixed_elsewhere(slots, image)

    def _without_fixed_elsewhere(self, slots: np.ndarray, image: ImageLayout) -> np.ndarray:
        """Return no slots where an axis that the image lacks is fixed to another index than 0."""
        lacking = [a for a in AXES if a not in image.sizes and a in self._fixed]
        if any(self._indices(axis, [self._fixed[axis]], image) != [0] for axis in lacking):
            return np.full_like(slots, -1)
        return slots

    def _indices(self, axis: str, values: Sequence[Value], image: ImageLayout) -> list[int]:
        """Return indices within the image, −1 for a channel that it does not have."""
        return [self._index(axis, value, image) for value in values]

    def _index(self, axis: str, value: Value, image: ImageLayout) -> int:
        if isinstance(value, int):
            return value
        try:
            return self._coordinates.index(axis, value, image)
        except CoordinateError:
            return -1

    # ------------------------------------------------------------ images

    def _outer_indices(self, chosen: Mapping[str, Sequence[Value]]) -> list[tuple[int, ...]]:
        """Return the indices along all outer axes, for every index along those of the array."""
        own = [axis for axis in chosen if axis not in AXES]
        found = []
        for where in np.ndindex(*(len(chosen[axis]) for axis in own)):
            values = {axis: chosen[axis][n] for axis, n in zip(own, where, strict=True)}
            found.append(
                tuple(int(values.get(a, self._fixed.get(a, 0))) for a in self._coordinates.outer)
            )
        return found

    def _image(self, outer: tuple[int, ...]) -> ImageLayout | None:
        return self._coordinates.image_at(outer)

    def _common_image(self) -> ImageLayout:
        images = self.images
        if not images:
            raise CoordinateError("There are no images at these coordinates.")
        kinds = {(image.frame_shape, image.dtype): image for image in images}
        if len(kinds) > 1:
            listed = ", ".join(f"{i.name}: {s} {d}" for (s, d), i in kinds.items())
            raise CoordinateError(
                f"The images differ in shape or type ({listed}); choose one kind, for example "
                "by cam or p."
            )
        return images[0]


def _at(values: Sequence[Value], index: Any) -> list[Value]:
    """Return the values that an index chooses."""
    if isinstance(values, range) and isinstance(index, int | slice):
        chosen = values[index]
        return list(chosen) if isinstance(chosen, range) else [chosen]
    return list(np.atleast_1d(np.array(values, object)[index]).tolist())


def _take(slots: np.ndarray, indices: Sequence[int], axis: int) -> np.ndarray:
    """Return `slots` at some indices along an axis, −1 outside."""
    wanted = np.array(indices, int)
    inside = (wanted >= 0) & (wanted < slots.shape[axis])
    if not inside.any():
        shape = list(slots.shape)
        shape[axis] = len(wanted)
        return np.full(shape, -1)
    taken = np.take(slots, np.where(inside, wanted, wanted[inside][0]), axis)
    if not inside.all():
        taken[(slice(None),) * axis + (~inside,)] = -1
    return taken


def whole_index(index: Any, ndim: int) -> tuple[Any, ...]:
    """Return an index with one entry an axis, integers not negative."""
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in index:
        n = index.index(Ellipsis)
        index = (*index[:n], *[slice(None)] * (ndim - len(index) + 1), *index[n + 1 :])
    index = (*index, *[slice(None)] * (ndim - len(index)))
    if len(index) > ndim:
        raise IndexError(f"{len(index)} indices for {ndim} axes.")
    return tuple(int(i) if isinstance(i, int | np.integer) else i for i in index)


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


def level_images(
    source: PixelSource, images: tuple[ImageLayout, ...], level: int
) -> tuple[ImageLayout, ...]:
    """Return the images with the sizes that they have at a level."""
    return tuple(_at_level(image, source.level_depths(image), level) for image in images)


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
        return self._source.level_depths(self._full[image.key])


def planes_covered(planes: int, depth: int) -> float:
    """Return how many planes of the full resolution one of `depth` planes covers.

    A power of two, as we write it; what it seems to be in third-party files.
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


def as_dask(array: Any, frame_axes: int) -> Any:
    """Return `array` (`FrameGrid` or the like) as a lazy Dask array.

    Parameters
    ----------
    array : array-like
        Read when indexed with slices.
    frame_axes : int
        How many of its last axes belong to a frame, which stays whole.
    """
    import dask.array as da
    import numpy as np

    leading, frame = array.shape[:-frame_axes], array.shape[-frame_axes:]
    frame_bytes = max(1, prod(frame) * array.dtype.itemsize)
    return da.from_array(  # type: ignore[no-untyped-call]
        array,
        chunks=(*frames_a_chunk(leading, frame_bytes), *frame),
        name=f"mda-writers-{uuid.uuid4().hex}",
        fancy=False,
        meta=np.empty((0,) * len(array.shape), array.dtype),
    )


def frames_a_chunk(sizes: Sequence[int], frame_bytes: int) -> tuple[int, ...]:
    """Return how many frames of each axis make a chunk: neighbours along the last axes."""
    frames = max(1, CHUNK_BYTES // frame_bytes, ceil(prod(sizes) / MOST_CHUNKS))
    chunks = []
    for n in reversed(sizes):
        chunks.append(max(1, min(n, frames)))
        frames = frames // n if n and frames >= n else 1
    return tuple(reversed(chunks))
