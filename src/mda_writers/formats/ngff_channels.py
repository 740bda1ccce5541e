"""How an OME-Zarr's channels are to be shown: their names, colours and windows of contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.model.channel_color import channel_color

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.model.layout import ImageLayout, Layout

Window = tuple[float, float]
"""Darkest and brightest value to show."""

_RGB = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))


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
