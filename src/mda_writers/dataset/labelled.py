"""A recording as a labelled array: coordinates in s and µm, names of channels and positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mda_writers.dataset.level_source import planes_covered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.dataset.dataset import Dataset


def to_xarray(dataset: Dataset, array: Any, axes: Mapping[str, list[Any]], level: int) -> Any:
    """Return a lazy array as an ``xarray.DataArray``.

    Parameters
    ----------
    dataset : Dataset
        Where it comes from.
    array : dask array
        Its pixels.
    axes : mapping
        The axes before y and x, with their values.
    level : int
        The resolution of `array`.
    """
    import xarray

    dims = [*axes, *("y", "x", "s")[: array.ndim - len(axes)]]
    steps = _steps(dataset, level)
    labels: dict[str, Any] = {}
    for axis, size in zip(dims, array.shape, strict=True):
        step, unit = steps.get(axis, (None, ""))
        values = axes.get(axis, range(size))
        if step is not None and all(isinstance(v, int) for v in values):
            labels[axis] = (axis, [v * step for v in values], {"units": unit})
        elif axis != "s":
            labels[axis] = list(values)
    attributes = {"path": str(dataset.path), "pixel_size_um": dataset.pixel_size_um}
    return xarray.DataArray(array, coords=labels, dims=dims, attrs=attributes)


def _steps(dataset: Dataset, level: int) -> dict[str, tuple[float | None, str]]:
    z, y, x = dataset.voxel_size_um
    factor = 2**level
    sizes = (dict(zip(dataset.sizes, dataset.shapes[n], strict=True)) for n in (0, level))
    planes = [each.get("z", 1) for each in sizes]
    return {
        "t": (dataset.time_interval_s, "s"),
        "z": (z * planes_covered(*planes) if z else None, "µm"),
        "y": (y * factor if y else None, "µm"),
        "x": (x * factor if x else None, "µm"),
    }
