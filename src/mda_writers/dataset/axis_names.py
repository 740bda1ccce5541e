"""What lies along the axes of a recording, and what each value there is called."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.coordinate_values import MissingFrameError, Value
from mda_writers.dataset.image_table import ImageTable
from mda_writers.model.channels import by_event_channel
from mda_writers.model.layout import AXES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mda_writers.model.layout import ImageLayout

MOST_VALUES = 1_000_000
"""Values of an axis that are held one by one."""

LISTED = 20
"""Values that an error lists."""


class AxisNames:
    """Names along the axes of some images, and the indices that they stand for.

    Parameters
    ----------
    images : sequence of ImageLayout
        All images of a recording.
    """

    def __init__(self, images: Sequence[ImageLayout]) -> None:
        self.images = tuple(images)
        self.table = ImageTable(self.images)

    @cached_property
    def axes(self) -> dict[str, Sequence[Value]]:
        """Axis → its values, the slowest first: names where they are unique, else indices."""
        axes: dict[str, Sequence[Value]] = {}
        for axis in self.table.axes:
            indices = sorted(self._outer_indices[axis])
            axes[axis] = self._position_values(indices) if axis == "p" else tuple(indices)
        for axis in _inner_axes(self.images):
            size = max(image.sizes.get(axis, 1) for image in self.images)
            axes[axis] = self._channel_values(size) if axis == "c" else numbered(size)
        return axes

    @property
    def outer(self) -> tuple[str, ...]:
        """The axes that choose an image."""
        return self.table.axes

    @cached_property
    def channels(self) -> list[str]:
        """The names of all channels, each once, in order of appearance."""
        names = (channel.name for image in self.images for channel in image.channels)
        return list(dict.fromkeys(name for name in names if name))

    @cached_property
    def positions(self) -> list[str]:
        """The names of all positions, each once, in order of appearance."""
        return list(dict.fromkeys(position_name(image) for image in self.images))

    def image(self, key: str) -> ImageLayout:
        """Return the image of that key."""
        return self.table.by_key[key]

    def image_at(self, outer: tuple[int, ...]) -> ImageLayout | None:
        """Return the image at some indices along `outer`; None where there is none."""
        return self.table.by_outer.get(outer)

    def of(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Value]:
        """Return the coordinates of a place: those of `axes`."""
        outer = dict(zip(self.table.axes, self.table.outer_of[image.key], strict=True))
        inner = dict(zip(image.sizes, place, strict=True))
        found: dict[str, Value] = {}
        for axis in self.axes:
            index = outer[axis] if axis in outer else inner.get(axis, 0)
            found[axis] = self.value(axis, index)
        return found

    def value(self, axis: str, index: Value) -> Value:
        """Return what `axes` calls an index."""
        if axis == "c" and isinstance(index, int):
            return self.axes["c"][index]
        if axis == "p" and isinstance(index, int) and isinstance(self.axes["p"][0], str):
            return self._names_of_p[index]
        return index

    def index(self, axis: str, value: Any, image: ImageLayout | None = None) -> int:
        """Return the index of a value along an axis, within `image` where that matters.

        Raises
        ------
        CoordinateError
            If there is no such value.
        """
        if axis == "c" and isinstance(value, str):
            return self._channel_index(value, image)
        if axis == "p" and isinstance(value, str):
            return self._position_index(value)
        number = whole_number(value)
        known = range(image.sizes.get(axis, 1)) if image and axis in AXES else self._indices(axis)
        if number is None or number not in known:
            raise MissingFrameError(
                f"There is no {axis}={value!r}; there is {self.listed(axis, image)}."
            )
        return number

    # ------------------------------------------------------------ positions and channels

    def _position_values(self, indices: list[int]) -> tuple[Value, ...]:
        names = {i: self._names_of_p.get(i, "") for i in indices}
        unique = len(set(names.values())) == len(names) and all(names.values())
        return tuple(names.values()) if unique else tuple(indices)

    @cached_property
    def _names_of_p(self) -> dict[int, str]:
        if "p" not in self.table.axes:
            return {}
        n = self.table.axes.index("p")
        return {outer[n]: position_name(image) for outer, image in self.table.by_outer.items()}

    def _position_index(self, name: str) -> int:
        found = [i for i, known in self._names_of_p.items() if known == name]
        if len(found) != 1:
            how_many = "no position" if not found else f"{len(found)} positions"
            raise MissingFrameError(
                f"There is {how_many} called {name!r}; there is {self.listed('p')}."
            )
        return found[0]

    def _channel_values(self, size: int) -> Sequence[Value]:
        longest = max(self.images, key=lambda image: len(image.channels))
        names = [channel.name for channel in longest.channels]
        agree = all(
            channel.name == names[n]
            for image in self.images
            for n, channel in enumerate(image.channels)
        )
        unique = len(set(names)) == len(names) == size and all(names)
        return tuple(names) if agree and unique else numbered(size)

    def _channel_index(self, name: str, image: ImageLayout | None) -> int:
        images = self.images if image is None else (image,)
        found = {n for i in images for n, c in enumerate(i.channels) if c.name == name}
        if len(found) != 1:
            how_many = "no channel" if not found else f"{len(found)} channels"
            where = f" in {image.name}" if image is not None and len(self.images) > 1 else ""
            listed = [c.name for c in image.channels] if image is not None else self.channels
            raise MissingFrameError(
                f"There is {how_many} called {name!r}{where}; there is "
                f"{', '.join(listed) or 'none with a name'}."
            )
        return found.pop()

    # ------------------------------------------------------------ texts

    def _indices(self, axis: str) -> Collection[int]:
        return self._outer_indices.get(axis) or range(len(self.axes.get(axis, (0,))))

    @cached_property
    def _outer_indices(self) -> dict[str, set[int]]:
        along = zip(*self.table.by_outer, strict=True)
        return {axis: set(indices) for axis, indices in zip(self.outer, along, strict=False)}

    def listed(self, axis: str, image: ImageLayout | None = None) -> str:
        """Return the values along an axis, within `image` where that matters, for an error."""
        if image is not None and axis in AXES:
            size = image.sizes.get(axis, 1)
            names = [c.name or str(n) for n, c in enumerate(image.channels)] if axis == "c" else []
            values: Sequence[Value] = names or range(size)
        else:
            values = self.axes.get(axis, (0,))
        if len(values) > LISTED and not isinstance(values[0], str):
            return f"{values[0]} to {values[-1]}"
        return ", ".join(map(str, values[:LISTED])) + " …" * (len(values) > LISTED)


def numbered(size: int) -> Sequence[int]:
    """Return the indices along an axis: of one that is very long, without making each of them."""
    return range(size) if size > MOST_VALUES else tuple(range(size))


def cameras_of(image: ImageLayout) -> int:
    """Return how many cameras lie side by side along c."""
    return max(map(len, by_event_channel(image.channels)), default=1)


def position_name(image: ImageLayout) -> str:
    """Return the name of an image's position: without what tells its tiles and cameras apart."""
    name = image.name
    if "cam" in image.index and image.channels:
        name = name.removesuffix(f"_{image.channels[0].camera}")
    for axis, i in sorted(image.index.items(), reverse=True):
        if axis not in ("p", "cam"):
            name = name.removesuffix(f"_{axis}{i:04d}")
    return name


def _inner_axes(images: Sequence[ImageLayout]) -> list[str]:
    """Return the axes within images, in the order in which most planes lie on disk."""
    by_length = sorted(images, key=lambda image: -len(image.sizes))
    return list(dict.fromkeys(axis for image in by_length for axis in image.sizes))


def whole_number(value: Any) -> int | None:
    """Return a value as an integer; None if it is none, as True and 1.0 are not."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return None
    return int(value)
