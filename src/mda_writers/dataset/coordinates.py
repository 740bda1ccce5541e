"""Where the frame of some coordinates lies: errors list what exists."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from mda_writers.dataset.axis_names import LISTED, AxisNames, cameras_of, whole_number
from mda_writers.dataset.coordinate_values import (
    ALIASES,
    CoordinateError,
    MissingFrameError,
    Value,
)
from mda_writers.dataset.tiles import rows_and_columns
from mda_writers.model.channels import by_event_channel
from mda_writers.model.layout import AXES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.model.layout import ImageLayout

__all__ = [
    "ALIASES",
    "Chosen",
    "CoordinateError",
    "Coordinates",
    "MissingFrameError",
    "Value",
    "cameras_of",
]


class Chosen(NamedTuple):
    """One place of one image."""

    image: ImageLayout
    place: tuple[int, ...]


class Coordinates(AxisNames):
    """Finds frames by their coordinates.

    Axes t, c and z lie within an image; every other one (p, g, cam, a user's own) chooses it.
    An index is that of the event: where positions have channels of their own, ``c=0`` is the
    first one of its position. A name is looked up in each image.

    Parameters
    ----------
    images : sequence of ImageLayout
        All images of a recording.
    """

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
