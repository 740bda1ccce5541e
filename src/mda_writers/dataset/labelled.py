"""A recording as a labelled array: coordinates in s and µm, names of channels and positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mda_writers.dataset.level_source import planes_covered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout


def to_xarray(
    dataset: Dataset,
    array: Any,
    axes: Mapping[str, Sequence[Any]],
    level: int,
    images: Sequence[ImageLayout],
) -> Any:
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
    images : sequence of ImageLayout
        The images that it is of: where they agree on a step, coordinates are in µm and s.
    """
    import xarray

    dims = [*axes, *("y", "x", "s")[: array.ndim - len(axes)]]
    steps = _steps(dataset, level, images)
    labels: dict[str, Any] = {}
    for axis, size in zip(dims, array.shape, strict=True):
        if isinstance(axes.get(axis), range):
            continue  # labels for each of so many would fill the memory
        step, unit = steps.get(axis, (None, ""))
        values = axes.get(axis, range(size))
        if step is not None and all(isinstance(v, int) for v in values):
            labels[axis] = (axis, [v * step for v in values], {"units": unit})
        elif axis != "s":
            labels[axis] = list(values)
    attributes = {"path": str(dataset.path), "pixel_size_um": dataset.pixel_size_um}
    return xarray.DataArray(array, coords=labels, dims=dims, attrs=attributes)


def _steps(
    dataset: Dataset, level: int, images: Sequence[ImageLayout]
) -> dict[str, tuple[float | None, str]]:
    _, y, x = dataset.voxel_size_um
    layout = dataset.source.contents.layout
    z = _common(layout.z_step_of(image) for image in images if "z" in image.sizes)
    t = _common(layout.time_interval_of(image) for image in images if "t" in image.sizes)
    factor = 2**level
    sizes = (dict(zip(dataset.sizes, dataset.shapes[n], strict=True)) for n in (0, level))
    planes = [each.get("z", 1) for each in sizes]
    return {
        "t": (t, "s"),
        "z": (z * planes_covered(*planes) if z else None, "µm"),
        "y": (y * factor if y else None, "µm"),
        "x": (x * factor if x else None, "µm"),
    }


def _common(steps: Iterable[float | None]) -> float | None:
    found = set(steps)
    return found.pop() if len(found) == 1 else None
