"""Recordings for napari, by drag and drop: a layer per channel, with scale and names.

napari finds this by ``napari.yaml``; nothing here imports napari or Qt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mda_writers.dataset.opening import find_recording, open_dataset
from mda_writers.errors import CorruptRecordingError, RecordingError
from mda_writers.model.layout import channel_color

if TYPE_CHECKING:
    from collections.abc import Callable

    from mda_writers.dataset.dataset import Dataset

LayerData = tuple[Any, dict[str, Any], str]

_UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return what reads `path`; None if it is no recording, so that napari asks others."""
    try:
        for each in [path] if isinstance(path, str) else path:
            open_dataset(each).close()
    except CorruptRecordingError:
        # one of ours that is damaged: reading it says so, where others would show what they can
        return read if _is_ours(each) else None
    except (RecordingError, OSError, ImportError):
        return None
    return read


def _is_ours(path: str) -> bool:
    try:
        return find_recording(Path(path)) is not None
    except CorruptRecordingError:
        return True


def read(path: str | list[str]) -> list[LayerData]:
    """Return the layers of one recording, or of several; of each once, whichever files it has."""
    paths = [path] if isinstance(path, str) else path
    opened = {dataset.path: dataset for dataset in map(open_dataset, paths)}
    return [layer for dataset in opened.values() for layer in layers_of(dataset)]


def layers_of(dataset: Dataset) -> list[LayerData]:
    """Return an image layer for every channel, each with its levels from large to small."""
    channels = list(dataset.axes.get("c", ()))
    if not channels:
        return [_layer(dataset, dataset.channels[0] if dataset.channels else "", {})]
    return [
        _in_color(_layer(dataset, str(channel), {"c": channel}), number, len(channels))
        for number, channel in enumerate(channels)
    ]


def _layer(dataset: Dataset, name: str, chosen: dict[str, Any]) -> LayerData:
    levels = [dataset.as_array(level=n, **chosen) for n in range(dataset.levels)]
    axes = [axis for axis in dataset.sizes if axis not in (*chosen, "s")]
    z_um, y_um, x_um = dataset.voxel_size_um
    steps = {"t": dataset.time_interval_s, "z": z_um, "y": y_um, "x": x_um}
    options = {
        "name": name or str(getattr(dataset.path, "name", dataset.path)),
        "scale": tuple(steps.get(axis) or 1.0 for axis in axes),
        "units": tuple(_UNITS[axis] if steps.get(axis) else "pixel" for axis in axes),
        "axis_labels": tuple(axes),
        "rgb": "s" in dataset.sizes,
        "multiscale": len(levels) > 1,
        "metadata": {"path": str(dataset.path), "summary": dataset.summary_metadata},
    }
    return (levels if len(levels) > 1 else levels[0]), options, "image"


def _in_color(layer: LayerData, number: int, count: int) -> LayerData:
    """Return the layer of one of several channels, such that all can be seen at once."""
    pixels, options, kind = layer
    if options["rgb"]:
        return pixels, {**options, "blending": "additive"}, kind
    color = f"#{channel_color(options['name'], number, count)}"
    return pixels, {**options, "blending": "additive", "colormap": color}, kind
