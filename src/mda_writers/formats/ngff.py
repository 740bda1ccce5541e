"""What an image in OME-Zarr says about itself: its axes and levels, what their pixels measure.

Source: https://ngff.openmicroscopy.org/0.5/ and https://ngff.openmicroscopy.org/0.4/ . Both say
the same; 0.5 puts everything under one key ``ome``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mda_writers.formats.ngff_channels import describe_channels
from mda_writers.formats.zarr_grid import NGFF_ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mda_writers.formats.ngff_channels import Window
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
