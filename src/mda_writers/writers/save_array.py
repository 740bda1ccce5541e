"""Save an array that exists already: a simulation, processed data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from mda_writers.errors import DiskFullError, options_checked
from mda_writers.formats.array_tiff import ArrayDescription, ome_xml, write_tiff
from mda_writers.model.encode import to_json
from mda_writers.model.names import check_name, split_suffix
from mda_writers.storage.atomic import replace_bytes
from mda_writers.storage.space import free_bytes, human_bytes
from mda_writers.writers.array_blocks import planes_of
from mda_writers.writers.existing import METADATA_SUFFIX, check_is_recording

_TIFF = (".ome.tif", ".ome.tiff")
_ZARR = (".ome.zarr", ".zarr")
_BESIDE_BYTES = 1 << 20  # the sidecar, and what is around the pixels


@options_checked("save_array")
def save_array(
    path: str | Path,
    array: Any,
    *,
    axes: str,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    time_interval_s: float | None = None,
    channels: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    notes: Any = None,
    overwrite: bool = False,
) -> Path:
    """Save `array` as OME-TIFF (BigTIFF) or OME-Zarr, by the suffix of `path`.

    It is read block by block, written beside, and put in place when all of it is on the disk.
    ``<path>_metadata.json`` holds everything that was said about it.

    Parameters
    ----------
    path : path-like
        ``.ome.tif``, ``.ome.tiff``, ``.ome.zarr`` or ``.zarr``.
    array : array-like
        numpy, Dask, zarr, or anything that can be sliced.
    axes : str
        A letter for each axis: out of T, C and Z in any order, then ``YX``, or ``YXS`` for
        colour. An image that is three pixels wide is not taken for a coloured one.
    pixel_size_um, z_step_um : float, optional
        Size of a pixel and distance of planes, in µm.
    time_interval_s : float, optional
        Time between two time points, in s.
    channels : sequence of str
        Names along C.
    metadata : mapping, optional
        Whatever else is known; also goes into the OME-XML of a TIFF.
    notes : optional
        A text, a list or a mapping; for the sidecar only.
    overwrite : bool
        Whether a file of that name may be replaced.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ValueError
        If anything does not fit together; nothing is written then.
    FileExistsError
        If there is a file of that name and `overwrite` is False.
    DiskFullError
        If there is no room for it.
    """
    path = Path(path).expanduser().absolute()
    array = _array(array)
    steps = {"x": pixel_size_um, "y": pixel_size_um, "z": z_step_um, "t": time_interval_s}
    described = describe(
        split_suffix(path.name)[0],
        array,
        axes,
        channels,
        {
            axis: (_positive(axis, step), "s" if axis == "t" else "µm")
            for axis, step in steps.items()
            if step is not None
        },
        metadata or {},
    )
    about = {
        "axes": axes,
        "shape": array.shape,
        "dtype": described.dtype,
        "pixel_size_um": pixel_size_um,
        "z_step_um": z_step_um,
        "time_interval_s": time_interval_s,
        "channels": list(channels),
        "metadata": dict(metadata or {}),
        "notes": notes,
    }
    write_array(path, array, described, about, overwrite=overwrite)
    return path


def describe(
    name: str,
    array: Any,
    axes: str,
    channels: Sequence[str],
    steps: dict[str, tuple[float, str]],
    metadata: Mapping[str, Any],
) -> ArrayDescription:
    """Return what `array` holds, if all that is said about it fits.

    Raises
    ------
    ValueError
        Saying what does not, and what would.
    """
    letters = _axes(axes, array.shape)
    plane = letters.index("Y")
    sizes = dict(zip(letters[:plane].lower(), map(int, array.shape[:plane]), strict=True))
    dtype = np.dtype(array.dtype)
    if dtype.kind == "b":
        raise ValueError("The array is boolean; save array.astype('uint8').")
    if isinstance(channels, str) or not all(isinstance(c, str) for c in channels):
        raise ValueError(f"channels takes a list of names, not {channels!r}.")
    if channels and len(channels) != sizes.get("c", 1):
        raise ValueError(
            f"channels has {len(channels)} names, and the array has {sizes.get('c', 1)} along C "
            f"(axes {axes}, shape {array.shape})."
        )
    frame_shape = tuple(map(int, array.shape[plane:]))
    return ArrayDescription(name, sizes, frame_shape, dtype.name, tuple(channels), steps, metadata)


def write_array(
    path: Path,
    array: Any,
    described: ArrayDescription,
    about: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write a described array and its sidecar; see `save_array`."""
    write = _write_tiff if _suffix(path) in _TIFF else _write_zarr
    if write is _write_tiff:
        ome_xml(described)  # what OME cannot hold shows here, before anything is written
    check_name(path.name)
    sidecar = path.with_name(path.name + METADATA_SUFFIX)
    _check_free(path, sidecar, overwrite)
    text = to_json(about) + b"\n"
    _check_space(path, described)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(beside)
    try:
        written = write(beside, path.name, array, described)
        if overwrite:
            _remove_unlike(path, written)
        written.replace(path)
        replace_bytes(sidecar, text)
    finally:
        _remove(beside)


# ---------------------------------------------------------------------------- before writing


def _array(array: Any) -> Any:
    if hasattr(array, "shape") and hasattr(array, "dtype"):
        return array
    found = np.asarray(array)
    if found.dtype == object:
        raise ValueError("The array's parts differ in shape, or are no numbers.")
    return found


def _axes(axes: str, shape: tuple[int, ...]) -> str:
    letters = axes.upper()
    advice = f"axes {axes!r} for an array of shape {tuple(shape)}"
    if len(set(letters)) != len(letters) or not set(letters) <= set("TCZYXS"):
        raise ValueError(f"{advice}: takes each of T, C, Z, Y, X and S at most once.")
    if len(letters) != len(shape):
        raise ValueError(f"{advice}: there must be one letter for each of its {len(shape)} axes.")
    if not letters.endswith(("YX", "YXS")):
        raise ValueError(f"{advice}: must end in YX, or YXS for colour; transpose the array first.")
    if letters.endswith("S") and shape[-1] != 3:
        raise ValueError(
            f"{advice}: S is colour and has 3 values, red, green and blue, not {shape[-1]}. Leave "
            "out transparency, or call them channels: C, before YX."
        )
    if 0 in shape:
        raise ValueError(f"{advice}: there is nothing in it.")
    return letters


def _positive(axis: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"The step along {axis} must be a number, not {value!r}.")
    if not (isfinite(value) and value > 0):
        raise ValueError(f"The step along {axis} must be greater than 0, not {value}.")
    return float(value)


def _suffix(path: Path) -> str:
    suffix = split_suffix(path.name)[1].lower()
    if suffix not in (*_TIFF, *_ZARR):
        raise ValueError(
            f"{path.name}: save_array writes {', '.join((*_TIFF, *_ZARR))}. Give the file one of "
            "these suffixes."
        )
    return suffix


def _check_free(path: Path, sidecar: Path, overwrite: bool) -> None:
    existing = [file for file in (path, sidecar) if file.exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"{existing[0]}: exists. Choose another name, or pass overwrite=True to replace it."
        )
    check_is_recording(path)


def _check_space(path: Path, described: ArrayDescription) -> None:
    needed = described.planes * described.plane_bytes + _BESIDE_BYTES
    free = free_bytes(path.parent)
    if free < needed:
        raise DiskFullError(
            f"{path}: {human_bytes(free)} free, {human_bytes(needed)} needed. Nothing was "
            "written; free some space or save to another disk."
        )


# ---------------------------------------------------------------------------- writing


def _write_tiff(beside: Path, name: str, array: Any, described: ArrayDescription) -> Path:
    write_tiff(beside, described, planes_of(array, len(described.sizes)))
    return beside


def _write_zarr(beside: Path, name: str, array: Any, described: ArrayDescription) -> Path:
    """Write through the writer of recordings, in a folder of its own beside."""
    from mda_writers.writers.ome_zarr import OMEZarrWriter

    writer = OMEZarrWriter(beside / name)
    height, width = described.frame_shape[:2]
    steps = {axis: value for axis, (value, _) in described.steps.items()}
    sizes = described.sizes or {"t": 1}
    writer.begin(
        width,
        height,
        len(described.frame_shape) == 3,
        dtype=described.dtype,
        sizes=sizes,
        channels=described.channels,
        pixel_size_um=steps.get("x"),
        z_step_um=steps.get("z"),
        time_interval_s=steps.get("t"),
        metadata=described.metadata,
    )
    shape = tuple(sizes.values())
    with writer:
        for number, pixels in planes_of(array, len(described.sizes)):
            index = np.unravel_index(number, shape)
            writer.add_frame(
                pixels, index={axis: int(i) for axis, i in zip(sizes, index, strict=True)}
            )
        writer.finish()
    return beside / name


def _remove_unlike(path: Path, written: Path) -> None:
    """Remove what is in the way of `written`: a folder is not replaced by renaming."""
    if path.is_dir() or written.is_dir():
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    with suppress(FileNotFoundError):
        path.unlink()
