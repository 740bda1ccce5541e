"""What a frame is called: axes, names and indices, and errors that list what exists."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.tiles import rows_and_columns
from mda_writers.model.layout import AXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mda_writers.model.layout import ImageLayout

Value = int | str

ALIASES = {
    "time": "t",
    "channel": "c",
    "position": "p",
    "grid": "g",
    "camera": "cam",
    "column": "col",
}

_ORDER = ("p", "g", "row", "col", "cam")
_LISTED = 20


class CoordinateError(LookupError):
    """There is no such axis, value, or frame; the text lists what there is."""


class MissingFrameError(CoordinateError):
    """There is no such value, or no frame on disk for it."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One place of one image."""

    image: ImageLayout
    place: tuple[int, ...]


class Coordinates:
    """Finds frames by their coordinates.

    Axes t, c and z lie within an image; every other one (p, g, cam, a user's own) chooses it.
    An index is that of the event: where positions have channels of their own, ``c=0`` is the
    first one of its position. A name is looked up in each image.

    Parameters
    ----------
    images : sequence of ImageLayout
        All images of a recording.
    """

    def __init__(self, images: Sequence[ImageLayout]) -> None:
        self.images = tuple(images)
        self._outer = _outer_axes(self.images)
        self._by_outer = self._table()
        self._by_key = {image.key: image for image in self.images}
        # the first image of an index, should there be several
        self._by_index = {frozenset(i.index.items()): i for i in reversed(self.images)}

    # ------------------------------------------------------------ what there is

    @cached_property
    def axes(self) -> dict[str, tuple[Value, ...]]:
        """Axis → its values, the slowest first: names where they are unique, else indices."""
        axes: dict[str, tuple[Value, ...]] = {}
        for n, axis in enumerate(self._outer):
            indices = sorted({outer[n] for outer in self._by_outer})
            axes[axis] = self._position_values(indices) if axis == "p" else tuple(indices)
        for axis in _inner_axes(self.images):
            size = max(image.sizes.get(axis, 1) for image in self.images)
            axes[axis] = self._channel_values(size) if axis == "c" else tuple(range(size))
        return axes

    @cached_property
    def outer(self) -> tuple[str, ...]:
        """The axes that choose an image."""
        return self._outer

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
        return self._by_key[key]

    def image_at(self, outer: tuple[int, ...]) -> ImageLayout | None:
        """Return the image at some indices along `outer`; None where there is none."""
        return self._by_outer.get(outer)

    def of(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Value]:
        """Return the coordinates of a place: those of `axes`."""
        outer = dict(zip(self._outer, self._outer_of[image.key], strict=True))
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

    # ------------------------------------------------------------ finding one frame

    def find(self, coords: Mapping[str, Any]) -> Chosen:
        """Return the place of the frame at `coords`.

        Axes of length one may be left out.

        Raises
        ------
        CoordinateError
            If there is no such axis or value, or an axis is left out that has a choice.
        """
        given = self.normalized(coords)
        image = self._image(given)
        if "cam" in given and "cam" not in self._outer:
            given = self._with_camera(image, given)
        place = []
        for axis, size in image.sizes.items():
            if axis not in given and size > 1:
                raise CoordinateError(f"Say which {axis}: {self._listed(axis, image)}.")
            place.append(self.index(axis, given.get(axis, 0), image))
        for axis in AXES:
            if axis not in image.sizes and axis in given:
                self.index(axis, given[axis], image)
        return Chosen(image, tuple(place))

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
        number = _whole(value)
        known = range(image.sizes.get(axis, 1)) if image and axis in AXES else self._indices(axis)
        if number is None or number not in known:
            raise MissingFrameError(
                f"There is no {axis}={value!r}; there is {self._listed(axis, image)}."
            )
        return number

    def normalized(self, coords: Mapping[str, Any]) -> dict[str, Any]:
        """Return `coords` with short axis names, and row and col as a tile's index.

        Raises
        ------
        CoordinateError
            If there is no such axis.
        """
        short = {ALIASES.get(axis, axis): value for axis, value in coords.items()}
        if self.images and not short.keys() <= self._known_axes.keys():
            unknown = next(axis for axis in short if axis not in self._known_axes)
            raise CoordinateError(
                f"There is no axis {unknown!r}; there is {', '.join(self._known_axes) or 'none'}."
            )
        if "row" in self._outer or "col" in self._outer:
            return short
        return self._tile(short) if "row" in short or "col" in short else short

    # ------------------------------------------------------------ images

    def _table(self) -> dict[tuple[int, ...], ImageLayout]:
        """Return the images by their indices along the outer axes.

        Events that name an axis now and then can give two images the same indices, as a missing
        one counts as 0; the later image then is a repetition, as for frames taken twice.
        """
        table: dict[tuple[int, ...], ImageLayout] = {}
        self._outer_of: dict[str, tuple[int, ...]] = {}
        indices = [dict(image.index) for image in self.images]
        seen: dict[tuple[tuple[str, int], ...], int] = {}
        for index in indices:
            known = tuple(sorted((a, i) for a, i in index.items() if i and a != "repeat"))
            index["repeat"] = max(index.get("repeat", 0), seen.get(known, 0))
            seen[known] = index["repeat"] + 1
        if any(index["repeat"] for index in indices) and "repeat" not in self._outer:
            self._outer = (*self._outer, "repeat")
        for image, index in zip(self.images, indices, strict=True):
            outer = tuple(index.get(axis, 0) for axis in self._outer)
            table[outer] = image
            self._outer_of[image.key] = outer
        return table

    def _image(self, given: Mapping[str, Any]) -> ImageLayout:
        """Return the image that the outer coordinates choose."""
        if not self.images:
            raise MissingFrameError("There are no frames yet.")
        chosen = {axis: self.index(axis, given[axis]) for axis in self._outer if axis in given}
        named = self._by_index.get(frozenset(chosen.items()))
        if named is not None:
            return named
        found = [
            (outer, image)
            for outer, image in self._by_outer.items()
            if all(outer[self._outer.index(axis)] == i for axis, i in chosen.items())
        ]
        if len(found) > 1 and "repeat" in self._outer and "repeat" not in chosen:
            n = self._outer.index("repeat")
            found = [each for each in found if not each[0][n]] or found
        if not found:
            raise MissingFrameError(f"There is no image at {chosen}; there is {self._images()}.")
        if len(found) > 1:
            open_axes = [a for n, a in enumerate(self._outer) if len({f[0][n] for f in found}) > 1]
            which = " and which ".join(f"{a}: {self._listed(a)}" for a in open_axes)
            raise CoordinateError(f"Say which {which}.")
        return found[0][1]

    def _images(self) -> str:
        names = [str(image.index) for image in self.images[:_LISTED]]
        return ", ".join(names) + " …" * (len(self.images) > _LISTED)

    @cached_property
    def _known_axes(self) -> dict[str, None]:
        extra = ["cam"] * any(cameras_of(image) > 1 for image in self.images)
        tiles = ["row", "col"] * (len(self.images) > 1 and bool({"p", "g"} & {*self._outer}))
        inner = [axis for axis in AXES if self.images]
        return dict.fromkeys([*self._outer, *inner, *extra, *tiles])

    def _tile(self, given: dict[str, Any]) -> dict[str, Any]:
        """Replace row and col by the index that the tile has along g (or p)."""
        axis = "g" if "g" in self._outer else "p"
        rest = {a: v for a, v in given.items() if a not in ("row", "col")}
        chosen = {a: self.index(a, v) for a, v in rest.items() if a in self._outer and a != axis}
        images = [
            image
            for outer, image in self._by_outer.items()
            if all(outer[self._outer.index(a)] == i for a, i in chosen.items())
        ]
        places = rows_and_columns(images)
        wanted = {n: _whole(given[a]) for n, a in enumerate(("row", "col")) if a in given}
        found = {
            self._outer_of[key][self._outer.index(axis)]
            for key, tile in places.items()
            if all(tile[n] == i for n, i in wanted.items())
        }
        if len(found) != 1:
            tiles = sorted(set(places.values()))
            raise MissingFrameError(
                f"{len(found) or 'No'} tiles are at row={given.get('row')}, "
                f"col={given.get('col')}; (row, col) there are: "
                f"{', '.join(map(str, tiles[:_LISTED])) or 'none, for the positions are unknown'}."
            )
        return {**rest, axis: found.pop()}

    # ------------------------------------------------------------ names

    def _position_values(self, indices: list[int]) -> tuple[Value, ...]:
        names = {i: self._names_of_p.get(i, "") for i in indices}
        unique = len(set(names.values())) == len(names) and all(names.values())
        return tuple(names.values()) if unique else tuple(indices)

    @cached_property
    def _names_of_p(self) -> dict[int, str]:
        if "p" not in self._outer:
            return {}
        n = self._outer.index("p")
        return {outer[n]: position_name(image) for outer, image in self._by_outer.items()}

    def _position_index(self, name: str) -> int:
        found = [i for i, known in self._names_of_p.items() if known == name]
        if len(found) != 1:
            how_many = "no position" if not found else f"{len(found)} positions"
            raise MissingFrameError(
                f"There is {how_many} called {name!r}; there is {self._listed('p')}."
            )
        return found[0]

    def _channel_values(self, size: int) -> tuple[Value, ...]:
        longest = max(self.images, key=lambda image: len(image.channels))
        names = [channel.name for channel in longest.channels]
        agree = all(
            channel.name == names[n]
            for image in self.images
            for n, channel in enumerate(image.channels)
        )
        unique = len(set(names)) == len(names) == size and all(names)
        return tuple(names) if agree and unique else tuple(range(size))

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

    def _with_camera(self, image: ImageLayout, given: dict[str, Any]) -> dict[str, Any]:
        """Return `given` with the channel that camera and optical channel make together."""
        cameras = cameras_of(image)
        camera = _whole(given["cam"])
        if camera is None or not 0 <= camera < cameras:
            raise MissingFrameError(
                f"There is no cam={given['cam']!r}; there is 0 to {cameras - 1}."
            )
        rest = {axis: value for axis, value in given.items() if axis != "cam"}
        if cameras == 1:
            return rest
        optical = rest.get("c", 0)
        if "c" not in rest and image.sizes["c"] > cameras:
            raise CoordinateError(f"Say which c: {self._listed('c', image)}.")
        if isinstance(optical, str):
            names = [c.name for c in image.channels]
            full = f"{optical}:{image.channels[camera].camera}"
            return {**rest, "c": full if full in names else optical}
        return {**rest, "c": (_whole(optical) or 0) * cameras + camera}

    # ------------------------------------------------------------ texts

    def _indices(self, axis: str) -> Iterable[int]:
        if axis in self._outer:
            n = self._outer.index(axis)
            return {outer[n] for outer in self._by_outer}
        return range(len(self.axes.get(axis, (0,))))

    def _listed(self, axis: str, image: ImageLayout | None = None) -> str:
        if image is not None and axis in AXES:
            size = image.sizes.get(axis, 1)
            names = [c.name or str(n) for n, c in enumerate(image.channels)] if axis == "c" else []
            values: Sequence[Value] = names or range(size)
        else:
            values = self.axes.get(axis, (0,))
        if len(values) > _LISTED and not isinstance(values[0], str):
            return f"{values[0]} to {values[-1]}"
        return ", ".join(map(str, values[:_LISTED])) + " …" * (len(values) > _LISTED)


def cameras_of(image: ImageLayout) -> int:
    """Return how many cameras lie side by side along c."""
    return max(1, len({channel.camera for channel in image.channels}))


def position_name(image: ImageLayout) -> str:
    """Return the name of an image's position: without what tells its tiles and cameras apart."""
    name = image.name
    if "cam" in image.index and image.channels:
        name = name.removesuffix(f"_{image.channels[0].camera}")
    for axis, i in sorted(image.index.items(), reverse=True):
        if axis not in ("p", "cam"):
            name = name.removesuffix(f"_{axis}{i:04d}")
    return name


def _outer_axes(images: Sequence[ImageLayout]) -> tuple[str, ...]:
    used = {axis for image in images for axis in image.index}
    return (*(a for a in _ORDER if a in used), *sorted(used - {*_ORDER}))


def _inner_axes(images: Sequence[ImageLayout]) -> list[str]:
    """Return the axes within images, in the order in which most planes lie on disk."""
    by_length = sorted(images, key=lambda image: -len(image.sizes))
    return list(dict.fromkeys(axis for image in by_length for axis in image.sizes))


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return None
    return int(value)
