"""A box of frames that is read when it is indexed: what is missing is filled."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.coordinates import CoordinateError
from mda_writers.dataset.levels import level_shapes, read_level
from mda_writers.model.layout import AXES
from mda_writers.recording.runs import FewSlots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mda_writers.dataset.coordinates import Coordinates, Value
    from mda_writers.dataset.sources import PixelSource
    from mda_writers.model.layout import ImageLayout


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
