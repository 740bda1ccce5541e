"""OME-Zarr of third parties, described by its metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.source import Contents, StaticSource
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr.reader import read_box
from mda_writers.model.layout import Channel, ImageLayout, Layout, common_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


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


class ThirdPartyZarr(StaticSource):
    """Reads an OME-Zarr folder or object store through zarr-python.

    Parameters
    ----------
    address : str
        A folder, or an address of an object store (``s3://…``; needs fsspec and its plug-in).
    storage_options : mapping, optional
        For the object store.

    Raises
    ------
    CorruptRecordingError
        If there is no Zarr array or OME-Zarr image.
    """

    def __init__(self, address: str, storage_options: Mapping[str, Any] | None = None) -> None:
        import zarr

        self._address = address
        self._storage_options = dict(storage_options or {}) or None
        self._levels: dict[str, list[Any]] = {}
        self._axes: dict[str, list[str]] = {}
        try:
            root = zarr.open(address, mode="r", storage_options=self._storage_options)
            self.contents = self._describe(root)
        except CorruptRecordingError:
            raise
        except Exception as error:  # whatever damaged metadata makes of zarr-python
            raise _corrupt(address, error) from error

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their place."""
        array = self._levels[image.key][level]
        try:
            return read_box(array, self._axes[image.key], image.sizes, np.asarray(slots))
        except Exception as error:
            raise _corrupt(self._address, error) from error

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every level that is stored."""
        return [tuple(array.shape[-2:]) for array in self._levels[image.key]]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every level that is stored."""
        axes = self._axes[image.key]
        z = axes.index("z") if "z" in axes else None
        return [1 if z is None else int(array.shape[z]) for array in self._levels[image.key]]

    def __reduce__(self) -> tuple[Any, ...]:
        return ThirdPartyZarr, (self._address, self._storage_options)

    # ------------------------------------------------------------ what is in it

    def _describe(self, root: Any) -> Contents:
        import zarr

        if isinstance(root, zarr.Array):
            about = ImageDescription.of_array(
                root.ndim, getattr(root.metadata, "dimension_names", None)
            )
            images = [self._image("0", "", {}, about, [root])]
            return Contents(Layout(images=tuple(images)), dict(root.attrs))
        groups = list(_image_groups(root))
        abouts = [describe_image(_ngff(group)) for _, _, group in groups]
        names = [about.name or name for about, (name, _, _) in zip(abouts, groups, strict=True)]
        if len(set(names)) < len(names):  # the fields of a plate, as a rule: wells tell them apart
            names = [name for name, _, _ in groups]
        images = []
        for number, (about, (_, index, group)) in enumerate(zip(abouts, groups, strict=True)):
            levels = [group[path] for path in about.paths]
            several = index if len(groups) > 1 else {}
            images.append(self._image(str(number), names[number], several, about, levels))
        if not images:
            raise CorruptRecordingError(
                f"{self._address}: a Zarr group without an OME-Zarr image; open one of its arrays."
            )
        first = abouts[0]
        z_step_um, time_interval_s = common_steps(images)
        layout = Layout(
            images=tuple(images),
            pixel_size_um=first.pixel_size_um,
            z_step_um=z_step_um,
            time_interval_s=time_interval_s,
        )
        return Contents(layout, dict(root.attrs))

    def _image(
        self, key: str, name: str, index: dict[str, int], about: ImageDescription, levels: list[Any]
    ) -> ImageLayout:
        shape = levels[0].shape
        if len(shape) != len(about.axes) or about.axes[-2:] != ["y", "x"]:
            raise CorruptRecordingError(
                f"{self._address}: an array of shape {shape} with axes {about.axes}; the last two "
                "must be y and x."
            )
        self._levels[key], self._axes[key] = levels, about.axes[:-2]
        sizes = {a: int(n) for a, n in zip(about.axes[:-2], shape[:-2], strict=True)}
        names = about.channels if len(about.channels) == sizes.get("c", 1) else []
        return ImageLayout(
            key=key,
            name=name or key,
            index=index,
            sizes=sizes,
            frame_shape=tuple(int(n) for n in shape[-2:]),
            dtype=np.dtype(levels[0].dtype).newbyteorder("=").name,
            channels=tuple(Channel(n) for n in names) or (Channel(""),) * sizes.get("c", 1),
            position_um=about.position_um,
            z_step_um=about.z_step_um,
            time_interval_s=about.time_interval_s,
        )


def _ngff(group: Any) -> dict[str, Any]:
    """Return the NGFF metadata of a group: from 0.5 on in a place of its own."""
    attributes = dict(group.attrs)
    ours = attributes.get("ome", attributes)
    return dict(ours) if isinstance(ours, dict) else {}


def _image_groups(root: Any) -> Iterator[tuple[str, dict[str, int], Any]]:
    """Yield name, index and group of every image."""
    about = _ngff(root)
    if "multiscales" in about:
        yield "", {}, root
    elif "plate" in about:
        yield from _fields(root, about["plate"])
    else:
        for n, path in enumerate(_series(root, about)):
            yield path, {"p": n}, root[path]


def _fields(root: Any, plate: dict[str, Any]) -> Iterator[tuple[str, dict[str, int], Any]]:
    number = 0
    for well in plate["wells"]:
        group = root[well["path"]]
        for field in _ngff(group)["well"]["images"]:  # noqa: F402
            name = f"{well['path'].replace('/', '')}_{field['path']}"
            yield name, {"p": number}, group[field["path"]]
            number += 1


def _series(root: Any, about: dict[str, Any]) -> list[str]:
    """Return the paths of a series' images: as listed, or by number (bioformats2raw)."""
    listed = about.get("series") or (_ngff(root["OME"]).get("series") if "OME" in root else None)
    if listed:
        return [str(path) for path in listed]
    numbers = sorted((name for name in root.group_keys() if name.isdigit()), key=int)
    return [name for name in numbers if "multiscales" in _ngff(root[name])]


def _corrupt(address: str, error: Exception) -> CorruptRecordingError:
    return CorruptRecordingError(
        f"{address}: not a Zarr folder that can be read, incomplete, or altered "
        f"({type(error).__name__}: {error}). Copy it again if this is a copy."
    )


# What NGFF metadata says about an image: axes, sizes in µm and s, levels, channels.
#
# Source: https://ngff.openmicroscopy.org/0.4/ and /0.5/ .


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
