"""Axes and coordinates: names and values in, places of frames out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from mda_writers.errors import CoordinateError, MissingFrameError
from mda_writers.model.layout import AXES, by_event_channel
from mda_writers.model.slots import FewSlots

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mda_writers.dataset.source import FrameSource
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.slots import Slots


__all__ = [
    "ALIASES",
    "Chosen",
    "Coordinates",
    "ImageCoordinates",
    "Value",
    "cameras_of",
]

MOST_VALUES = 1_000_000
"""Values of an axis that are held one by one."""

LISTED = 20
"""Values that an error lists."""

Selection = tuple[dict[str, Sequence[Any]], dict[str, Any]]
"""Axes that stay with their values, and axes that go with their one value."""

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

SAME_UM = 0.01
"""Coordinates that differ by less are one and the same row or column."""


class Chosen(NamedTuple):
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
        if "cam" in given and "cam" not in self.outer:
            given = self._with_camera(image, given)
        place = []
        for axis, size in image.sizes.items():
            if axis not in given and size > 1:
                raise CoordinateError(f"Say which {axis}: {self.listed(axis, image)}.")
            value = given.get(axis, 0)
            plain = type(value) is int and 0 <= value < size
            place.append(value if plain else self.index(axis, value, image))
        if not given.keys() <= image.sizes.keys():
            for axis in AXES:
                if axis not in image.sizes and axis in given:
                    self.index(axis, given[axis], image)
        return Chosen(image, tuple(place))

    def normalized(self, coords: Mapping[str, Any]) -> dict[str, Any]:
        """Return `coords` with short axis names, and row and col as a tile's index.

        Raises
        ------
        CoordinateError
            If there is no such axis.
        """
        if coords.keys() <= self._own_axes.keys():
            return dict(coords)
        short = {ALIASES.get(axis, axis): value for axis, value in coords.items()}
        if self.images and not short.keys() <= self._known_axes.keys():
            unknown = next(axis for axis in short if axis not in self._known_axes)
            raise CoordinateError(
                f"There is no axis {unknown!r}; there is {', '.join(self._known_axes) or 'none'}."
            )
        if "row" in self.outer or "col" in self.outer:
            return short
        return self._tile(short) if "row" in short or "col" in short else short

    # ------------------------------------------------------------ images

    def _image(self, given: Mapping[str, Any]) -> ImageLayout:
        """Return the image that the outer coordinates choose."""
        if not self.images:
            raise MissingFrameError("There are no frames yet.")
        if not self.outer:
            return self.images[0]
        chosen = {axis: self.index(axis, given[axis]) for axis in self.outer if axis in given}
        named = self.table.by_index.get(frozenset(chosen.items()))
        if named is not None:
            return named
        found = [
            (outer, image)
            for outer, image in self.table.by_outer.items()
            if all(outer[self.outer.index(axis)] == i for axis, i in chosen.items())
        ]
        if len(found) > 1 and "repeat" in self.outer and "repeat" not in chosen:
            n = self.outer.index("repeat")
            found = [each for each in found if not each[0][n]] or found
        if not found:
            raise MissingFrameError(f"There is no image at {chosen}; there is {self._images()}.")
        if len(found) > 1:
            open_axes = [a for n, a in enumerate(self.outer) if len({f[0][n] for f in found}) > 1]
            which = " and which ".join(f"{a}: {self.listed(a)}" for a in open_axes)
            raise CoordinateError(f"Say which {which}.")
        return found[0][1]

    def _images(self) -> str:
        names = [str(image.index) for image in self.images[:LISTED]]
        return ", ".join(names) + " …" * (len(self.images) > LISTED)

    @cached_property
    def _own_axes(self) -> dict[str, None]:
        """The axes that need no translation."""
        return dict.fromkeys([*self.outer, *AXES] if self.images else [])

    @cached_property
    def _known_axes(self) -> dict[str, None]:
        extra = ["cam"] * any(cameras_of(image) > 1 for image in self.images)
        tiles = ["row", "col"] * (len(self.images) > 1 and bool({"p", "g"} & {*self.outer}))
        inner = [axis for axis in AXES if self.images]
        return dict.fromkeys([*self.outer, *inner, *extra, *tiles])

    def _tile(self, given: dict[str, Any]) -> dict[str, Any]:
        """Replace row and col by the index that the tile has along g (or p)."""
        axis = "g" if "g" in self.outer else "p"
        rest = {a: v for a, v in given.items() if a not in ("row", "col")}
        chosen = {a: self.index(a, v) for a, v in rest.items() if a in self.outer and a != axis}
        images = [
            image
            for outer, image in self.table.by_outer.items()
            if all(outer[self.outer.index(a)] == i for a, i in chosen.items())
        ]
        places = rows_and_columns(images)
        wanted = {n: whole_number(given[a]) for n, a in enumerate(("row", "col")) if a in given}
        found = {
            self.table.outer_of[key][self.outer.index(axis)]
            for key, tile in places.items()
            if all(tile[n] == i for n, i in wanted.items())
        }
        if len(found) != 1:
            tiles = sorted(set(places.values()))
            raise MissingFrameError(
                f"{len(found) or 'No'} tiles are at row={given.get('row')}, "
                f"col={given.get('col')}; (row, col) there are: "
                f"{', '.join(map(str, tiles[:LISTED])) or 'none, for the positions are unknown'}."
            )
        return {**rest, axis: found.pop()}

    # ------------------------------------------------------------ cameras

    def _with_camera(self, image: ImageLayout, given: dict[str, Any]) -> dict[str, Any]:
        """Return `given` with the channel that camera and optical channel make together."""
        cameras = cameras_of(image)
        camera = whole_number(given["cam"])
        if camera is None or not 0 <= camera < cameras:
            raise MissingFrameError(
                f"There is no cam={given['cam']!r}; there is 0 to {cameras - 1}."
            )
        rest = {axis: value for axis, value in given.items() if axis != "cam"}
        if cameras == 1:
            return rest
        if "c" not in rest and len(by_event_channel(image.channels)) > 1:
            raise CoordinateError(f"Say which c: {self.listed('c', image)}.")
        return {**rest, "c": beside(image, rest.get("c", 0), camera)}

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


class ImageCoordinates(Sequence[dict[str, "Value"]]):
    """The coordinates of the frames that were on disk when it was made.

    Image after image, each in the order of its axes.
    """

    def __init__(self, source: FrameSource, coordinates: Coordinates) -> None:
        self._coordinates = coordinates
        slots = [source.slots(image.key) for image in coordinates.images]
        self._flat = [_filled(each) for each in slots]
        self._shapes = [each.shape for each in slots]
        self._ends = np.cumsum([len(flat) for flat in self._flat])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> dict[str, Value]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Value]]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        image = int(np.searchsorted(self._ends, number, side="right"))
        flat = self._flat[image][number - self._ends[image]]
        place = tuple(int(i) for i in np.unravel_index(flat, self._shapes[image]))
        return self._coordinates.of(self._coordinates.images[image], place)

    def __repr__(self) -> str:
        return f"<coordinates of {len(self)} frames>"


def _filled(slots: Slots) -> np.ndarray:
    return slots.places if isinstance(slots, FewSlots) else np.flatnonzero(slots >= 0)


def beside(image: ImageLayout, c: Any, camera: int) -> Any:
    """Return the place along c of a channel of the events, as one of several cameras took it.

    Raises
    ------
    MissingFrameError
        If there is no such channel, or that camera did not take it.
    """
    if isinstance(c, str):
        names = {n: (each.name, each.cam, each.camera) for n, each in enumerate(image.channels)}
        return next(
            (n for n, (a, cam, b) in names.items() if cam == camera and a in (c, f"{c}:{b}")), c
        )
    channels, number = by_event_channel(image.channels), whole_number(c)
    if number is None or not 0 <= number < len(channels):
        raise MissingFrameError(
            f"There is no c={c!r}; with cam, there is 0 to {len(channels) - 1}."
        )
    if camera >= len(channels[number]):
        last = len(channels[number]) - 1
        raise MissingFrameError(f"There is no cam={camera} at c={number}; there is 0 to {last}.")
    return channels[number][camera]


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


def choose(
    coordinates: Coordinates, axes: Sequence[str] | None, coords: Mapping[str, Any]
) -> Selection:
    """Return what of a recording was chosen.

    Parameters
    ----------
    coordinates : Coordinates
        The recording's.
    axes : sequence of str or None
        Axes that shall stay, in that order; None for all that are not chosen by one value.
    coords : mapping
        Axis → one value, a slice of indices, or a list of values.

    Raises
    ------
    CoordinateError
        If there is no such axis or value, or an axis with a choice is neither named nor chosen.
    """
    given = _with_cameras(coordinates, coordinates.normalized(coords))
    kept: dict[str, Sequence[Any]] = {}
    fixed: dict[str, Any] = {}
    for axis in coordinates.axes:
        values = _values(coordinates, axis, given.get(axis, slice(None)))
        if isinstance(values, list | range):
            kept[axis] = values
        else:
            fixed[axis] = values
    for axis in given.keys() - coordinates.axes.keys():
        coordinates.index(axis, given[axis])
    return (kept, fixed) if axes is None else _ordered(coordinates, axes, kept, fixed)


def _with_cameras(coordinates: Coordinates, given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with the channels of one camera, where several lie side by side along c."""
    if "cam" not in given or "cam" in coordinates.outer:
        return given
    image = max(coordinates.images, key=cameras_of)
    cameras, camera = cameras_of(image), given["cam"]
    if camera not in range(cameras):
        raise CoordinateError(f"There is no cam={camera!r}; there is 0 to {cameras - 1}.")
    rest = {axis: value for axis, value in given.items() if axis != "cam"}
    optical = rest.get("c", slice(None))
    if isinstance(optical, slice):
        channels = by_event_channel(image.channels)[optical]
        return {**rest, "c": [each[camera] for each in channels if camera < len(each)]}
    if isinstance(optical, str | int | np.integer):
        return {**rest, "c": beside(image, optical, camera)}
    return {**rest, "c": [beside(image, n, camera) for n in optical]}


def _values(coordinates: Coordinates, axis: str, wanted: Any) -> Any:
    """Return a list of values, or one value for an axis that goes."""
    if isinstance(wanted, slice):
        if axis == "c":
            return list(range(len(coordinates.axes[axis]))[wanted])
        every = coordinates.axes[axis][wanted]
        if isinstance(every, range):
            return every
        return [v if isinstance(v, int) else coordinates.index(axis, v) for v in every]
    if isinstance(wanted, list | tuple | range | np.ndarray):
        return [_value(coordinates, axis, value) for value in wanted]
    return _value(coordinates, axis, wanted)


def _value(coordinates: Coordinates, axis: str, value: Any) -> Any:
    """Return the index of a value; a channel's name where images have channels of their own."""
    named = isinstance(next(iter(coordinates.axes[axis]), None), str)
    if axis != "c" or not isinstance(value, str) or named:
        return coordinates.index(axis, value)
    holders = [i for i in coordinates.images if value in [c.name for c in i.channels]]
    for image in holders or coordinates.images[:1]:
        coordinates.index(axis, value, image)
    return value


def _ordered(
    coordinates: Coordinates,
    axes: Sequence[str],
    kept: dict[str, Sequence[Any]],
    fixed: dict[str, Any],
) -> Selection:
    """Return the chosen axes in the order that was asked for; those of length one may go."""
    names = [ALIASES.get(axis, axis) for axis in axes if axis not in ("y", "x", "s")]
    for axis in names:
        if axis in fixed:
            raise CoordinateError(
                f"{axis} is chosen by one value, so that it cannot be an axis; give [value] or a "
                "slice to keep it."
            )
        if axis not in kept or names.count(axis) > 1:
            listed = ", ".join(coordinates.axes)
            raise CoordinateError(f"axes={list(axes)}: the axes here are {listed}, each once.")
    left = {axis: values for axis, values in kept.items() if axis not in names}
    for axis, values in left.items():
        if len(values) != 1:
            raise CoordinateError(
                f"Axis {axis} has {len(values)} values: name it in axes, or say which {axis}."
            )
    return {axis: kept[axis] for axis in names}, fixed | {a: v[0] for a, v in left.items()}


class ImageTable:
    """Finds an image by its indices along p, g, cam and whatever axes a user adds.

    Parameters
    ----------
    images : sequence of ImageLayout
        All images of a recording.

    Attributes
    ----------
    axes : tuple of str
        The axes that choose an image.
    by_outer : dict
        Indices along `axes` → image.
    outer_of : dict
        Key of an image → its indices along `axes`.
    by_key : dict
        Key → image.
    by_index : dict
        The items of an image's own index → image: the first one, should there be several.
    """

    def __init__(self, images: Sequence[ImageLayout]) -> None:
        self.images = images
        self.axes = _outer_axes(images)
        self.by_outer: dict[tuple[int, ...], ImageLayout] = {}
        self.outer_of: dict[str, tuple[int, ...]] = {}
        self.by_key = {image.key: image for image in images}
        self.by_index = {frozenset(i.index.items()): i for i in reversed(images)}
        self._fill()

    def _fill(self) -> None:
        """Note the images by their indices along the outer axes.

        Events that name an axis now and then can give two images the same indices, as a missing
        one counts as 0; the later image then is a repetition, as for frames taken twice.
        """
        indices = [dict(image.index) for image in self.images]
        seen: dict[tuple[tuple[str, int], ...], int] = {}
        for index in indices:
            known = tuple(sorted((a, i) for a, i in index.items() if i and a != "repeat"))
            index["repeat"] = max(index.get("repeat", 0), seen.get(known, 0))
            seen[known] = index["repeat"] + 1
        if any(index["repeat"] for index in indices) and "repeat" not in self.axes:
            self.axes = (*self.axes, "repeat")
        for image, index in zip(self.images, indices, strict=True):
            outer = tuple(index.get(axis, 0) for axis in self.axes)
            self.by_outer[outer] = image
            self.outer_of[image.key] = outer


def _outer_axes(images: Sequence[ImageLayout]) -> tuple[str, ...]:
    used = {axis for image in images for axis in image.index}
    return (*(a for a in _ORDER if a in used), *sorted(used - {*_ORDER}))


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
