"""The metadata of OME-NGFF: multiscales, channels, plates, series."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.zarr.grid import NGFF_ORDER
from mda_writers.model.layout import channel_color

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mda_writers.model.layout import ImageLayout, Layout


ZARR_FORMAT = {"0.4": 2, "0.5": 3}
"""Version of NGFF → version of Zarr."""

_AXES = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", "type": "space", "unit": "micrometer"},
    "y": {"name": "y", "type": "space", "unit": "micrometer"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}

Window = tuple[float, float]
"""Darkest and brightest value to show."""

_RGB = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))


# What an image in OME-Zarr says about itself: its axes and levels, what their pixels measure.
#
# Source: https://ngff.openmicroscopy.org/0.5/ and https://ngff.openmicroscopy.org/0.4/ . Both say
# the same; 0.5 puts everything under one key ``ome``.


def image_attributes(
    layout: Layout,
    image: ImageLayout,
    z_steps: Sequence[int],
    version: str,
    windows: Mapping[str, Window],
) -> dict[str, Any]:
    """Return the attributes of an image's group.

    Parameters
    ----------
    layout : Layout
        The recording.
    image : ImageLayout
        The image.
    z_steps : sequence of int
        Planes of level 0 that one of each level covers; in y and x each level is half as large as
        the one before.
    version : str
        NGFF's.
    windows : mapping
        Label of a channel → darkest and brightest value to show.
    """
    axes = stored_axes(image)
    multiscale: dict[str, Any] = {
        "name": image.name,
        "axes": [_axis(layout, image, axis) for axis in axes],
        "datasets": [
            _dataset(layout, image, axes, level, z_step) for level, z_step in enumerate(z_steps)
        ],
    }
    if len(z_steps) > 1:
        multiscale |= {"type": "mean", "metadata": _downscaling(z_steps)}
    omero: dict[str, Any] = {
        "channels": describe_channels(layout, image, windows),
        "rdefs": {"defaultT": 0, "defaultZ": image.sizes.get("z", 1) // 2, "model": "color"},
    }
    if version == "0.4":
        multiscale["version"] = omero["version"] = version
    return versioned(version, {"multiscales": [multiscale], "omero": omero})


def stored_axes(image: ImageLayout) -> list[str]:
    """Return the axes of an image in NGFF's order."""
    colour = len(image.frame_shape) == 3
    return [a for a in NGFF_ORDER if a in image.sizes or (a == "c" and colour)] + ["y", "x"]


def _downscaling(z_steps: Sequence[int]) -> dict[str, str]:
    planes = f"{z_steps[1]} x " if z_steps[1] > 1 else ""
    return {
        "method": f"mean of {planes}2 x 2 pixels of the level above",
        "version": "1",
        "args": "integers rounded to the nearest, halves upwards; odd edges averaged with "
        "themselves; along z the mean of the planes that were taken",
    }


def _axis(layout: Layout, image: ImageLayout, axis: str) -> dict[str, str]:
    """Return an axis, with its unit where the step along it is known."""
    described = dict(_AXES[axis])
    if axis not in ("t", "c") and _step(layout, image, axis) is None:
        del described["unit"]
    return described


def _step(layout: Layout, image: ImageLayout, axis: str) -> float | None:
    """Return the distance along an axis; planes that go down count downwards."""
    steps = {"t": layout.time_interval_of(image), "c": None, "z": layout.z_step_of(image)}
    return steps.get(axis, layout.pixel_size_um)


def _dataset(
    layout: Layout, image: ImageLayout, axes: list[str], level: int, z_step: int
) -> dict[str, Any]:
    """Return where level 0 … n lies and what its pixels measure.

    A pixel of level n covers 2ⁿ pixels of level 0, so its centre lies (2ⁿ - 1) / 2 of their
    widths further on; along z in the same way.
    """
    factors = {"z": z_step, "y": 2**level, "x": 2**level}
    position = dict(zip("xyz", image.position_um or (None, None, None), strict=True))
    scale, translation = [], []
    for axis in axes:
        step, factor = _step(layout, image, axis), factors.get(axis, 1)
        # where no length is known, a position in µm would have no meaning
        origin = (position.get(axis) or 0.0) if step else 0.0
        scale.append(float(factor * (step or 1.0)))
        translation.append(float(origin + (factor - 1) / 2 * (step or 1.0)))
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": translation},
        ],
    }


def versioned(version: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return attributes where that version of NGFF has them."""
    return content if version == "0.4" else {"ome": {"version": version, **content}}


def describe_channels(
    layout: Layout, image: ImageLayout, windows: Mapping[str, Window]
) -> list[dict[str, Any]]:
    """Return what OMERO's metadata say about every channel; `windows` are by its label."""
    labels = channel_labels(image)
    low, high = _value_range(layout, image)
    channels = []
    for number, label in enumerate(labels):
        start, end = windows.get(label, (low, high))
        channels.append(
            {
                "label": label,
                "color": _color(image, label, number, len(labels)),
                "active": True,
                "coefficient": 1.0,
                "family": "linear",
                "inverted": False,
                "window": {
                    "min": min(low, start),
                    "max": max(high, end),
                    "start": start,
                    "end": end,
                },
            }
        )
    return channels


def channel_labels(image: ImageLayout) -> list[str]:
    """Return a name for every index along c."""
    names = [channel.name or channel.camera for channel in image.channels]
    names += [""] * (image.sizes.get("c", 1) - len(names))
    if len(image.frame_shape) == 3:
        return [f"{name} {colour}".strip() for name in names for colour, _ in _RGB]
    return [name or f"channel {n}" for n, name in enumerate(names)]


def contrast_window(plane: np.ndarray) -> Window:
    """Return the values between which a plane is shown: all but a thousandth at either end."""
    step = max(1, min(plane.shape) // 512)
    sample = plane[::step, ::step].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, [0.1, 99.9]))
    return low, high if high > low else low + 1.0


def _value_range(layout: Layout, image: ImageLayout) -> Window:
    dtype = np.dtype(image.dtype)
    if dtype.kind not in "iu":
        return 0.0, 1.0
    limits = np.iinfo(dtype)
    if dtype.kind == "u" and layout.bit_depth and layout.bit_depth < limits.bits:
        return 0.0, float(2**layout.bit_depth - 1)
    return float(limits.min), float(limits.max)


def _color(image: ImageLayout, label: str, number: int, count: int) -> str:
    if len(image.frame_shape) == 3:
        return _RGB[number % 3][1]
    return channel_color(label, number, count)


def series_root(version: str) -> dict[str, Any]:
    """Return the attributes of a folder of several images (bioformats2raw layout)."""
    return versioned(version, {"bioformats2raw.layout": 3})


def series_attributes(paths: Iterable[str], version: str) -> dict[str, Any]:
    """Return the attributes of the group ``OME``: which images there are."""
    return versioned(version, {"series": list(paths)})


def plate_attributes(
    plate: Mapping[str, Any], fields: Mapping[tuple[int, int], int], version: str
) -> dict[str, Any]:
    """Return the attributes of a plate.

    Parameters
    ----------
    plate : mapping
        As ``describe_plate`` returned it.
    fields : mapping
        Row and column of every well that has images → how many.
    version : str
        NGFF's.
    """
    rows, columns = plate["rows"], plate["columns"]
    content: dict[str, Any] = {
        "name": plate["name"],
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {"path": f"{rows[row]}/{columns[column]}", "rowIndex": row, "columnIndex": column}
            for row, column in sorted(fields)
        ],
        "field_count": max(fields.values(), default=0),
        "acquisitions": [{"id": 0, "maximumfieldcount": max(fields.values(), default=1)}],
        "version": version,
    }
    return versioned(version, {"plate": content})


def well_attributes(fields: Iterable[str], version: str) -> dict[str, Any]:
    """Return the attributes of a well with these fields."""
    images = [{"path": path, "acquisition": 0} for path in fields]
    return versioned(version, {"well": {"images": images, "version": version}})


def wells_of(folders: Iterable[str]) -> dict[str, list[str]]:
    """Return the fields of every well: ``["A/1/0", "A/1/1"]`` → ``{"A/1": ["0", "1"]}``."""
    wells: defaultdict[str, list[str]] = defaultdict(list)
    for folder in folders:
        well, field = folder.rsplit("/", 1)
        wells[well].append(field)
    return dict(wells)
