"""What NGFF metadata says about an image: axes, sizes in µm and s, levels, channels.

Source: https://ngff.openmicroscopy.org/0.4/ and /0.5/ .
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UM = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_S = {"nanosecond": 1e-9, "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0}
_NAMES = {"time": "t", "channel": "c"}


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """One image: its axes slowest first, the paths of its levels, and what is known of it."""

    axes: list[str]
    paths: list[str] = field(default_factory=list)
    name: str = ""
    channels: list[str] = field(default_factory=list)
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    time_interval_s: float | None = None
    position_um: tuple[float | None, float | None, float | None] | None = None

    @classmethod
    def of_array(cls, ndim: int, names: Sequence[str | None] | None) -> ImageDescription:
        """Return what is known of an array without metadata: its dimensions' names, at best."""
        if names and len(names) == ndim and all(names):
            return cls([str(name).lower() for name in names])
        return cls(["t", "c", "z", "y", "x"][-ndim:])


def describe_image(about: Mapping[str, Any]) -> ImageDescription:
    """Return what the NGFF metadata of an image's group says.

    Raises
    ------
    KeyError, TypeError, IndexError
        If it is not what NGFF asks for.
    """
    scales = about["multiscales"][0]
    axes = [_axis(each) for each in scales.get("axes") or "tczyx"]
    units = [
        each.get("unit") if isinstance(each, dict) else None for each in scales.get("axes", [])
    ]
    first = scales["datasets"][0]
    steps, origin = _placed(len(axes), [*_transforms(first), *_transforms(scales)])
    unit_of = dict(zip(axes, units, strict=False))
    step = {a: _scaled(s, a, unit_of.get(a)) for a, s in zip(axes, steps, strict=True)}
    start = {a: _scaled(s, a, unit_of.get(a)) for a, s in zip(axes, origin, strict=True)}
    omero = about.get("omero") or {}
    return ImageDescription(
        axes=axes,
        paths=[str(each["path"]) for each in scales["datasets"]],
        name=str(scales.get("name") or ""),
        channels=[str(each.get("label", "")) for each in omero.get("channels", [])],
        pixel_size_um=step.get("x"),
        z_step_um=step.get("z"),
        time_interval_s=step.get("t"),
        position_um=(start.get("x"), start.get("y"), start.get("z")) if any(origin) else None,
    )


def _axis(each: Any) -> str:
    name = str(each["name"] if isinstance(each, dict) else each).lower()
    return _NAMES.get(name, name)


def _transforms(of: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(of.get("coordinateTransformations") or [])


def _placed(count: int, transforms: list[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the step and the origin along each axis, one transformation after the other."""
    steps, origin = [1.0] * count, [0.0] * count
    for each in transforms:
        if each.get("type") == "scale":
            factors = [float(n) for n in each["scale"]]
            steps = [a * b for a, b in zip(steps, factors, strict=True)]
            origin = [a * b for a, b in zip(origin, factors, strict=True)]
        elif each.get("type") == "translation":
            origin = [a + float(b) for a, b in zip(origin, each["translation"], strict=True)]
    return steps, origin


def _scaled(value: float, axis: str, unit: str | None) -> float | None:
    """Return a length in µm or a time in s; None where the unit is unknown."""
    factor = (_S if axis == "t" else _UM).get(unit or "")
    return value * factor if factor else None
