"""Which part of a recording an array shall show: axes that stay, and axes with one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.coordinates import ALIASES, CoordinateError, beside, cameras_of
from mda_writers.model.channels import by_event_channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.dataset.coordinates import Coordinates

Selection = tuple[dict[str, Sequence[Any]], dict[str, Any]]
"""Axes that stay with their values, and axes that go with their one value."""


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
