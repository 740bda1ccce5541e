"""Save an array that exists already, as OME-TIFF or OME-Zarr."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from xml.etree import ElementTree as ET

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from mda_writers.errors import DiskFullError, options_checked
from mda_writers.formats.tiff.finish import put
from mda_writers.formats.tiff.layout import DATA_OFFSET, lay_out
from mda_writers.formats.tiff.ome_xml import (
    LENGTH_UNITS,
    TIME_UNITS,
    allowed,
    channel,
    document,
    element,
    pixels,
    samples_of,
    to_xml,
)
from mda_writers.model.encode import to_json
from mda_writers.model.names import check_name, safe_name, split_suffix
from mda_writers.recording.replaced import METADATA_SUFFIX, check_is_recording
from mda_writers.storage.block_file import BlockFile
from mda_writers.storage.disk_space import explained, free_bytes, human_bytes
from mda_writers.storage.files import replace_bytes
from mda_writers.storage.write_pool import WritePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_TIFF = (".ome.tif", ".ome.tiff")
_ZARR = (".ome.zarr", ".zarr")
_BESIDE_BYTES = 1 << 20  # the sidecar, and what is around the pixels

MOST_BYTES = 512 << 20
"""Bytes of a block. A chunk that is larger is read in pieces."""

_NOTE = "Annotation:0"

UM_PER_UNIT = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4}

_SPELLINGS = {"um": "µm", "μm": "µm", "micron": "µm", "microns": "µm", "angstrom": "Å", "sec": "s"}

Step = Annotated[float, Field(gt=0, allow_inf_nan=False)]


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
    from mda_writers.writers.zarr import OMEZarrWriter

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


def planes_of(array: Any, leading: int) -> Iterator[tuple[int, np.ndarray]]:
    """Return every plane of `array` with its number, in the order in which they are cheap to get.

    Parameters
    ----------
    array : array-like
        numpy, Dask, zarr or anything with ``shape``, ``dtype`` and slices that numpy understands.
    leading : int
        Number of axes before those of a plane.
    """
    shape = array.shape[:leading]
    plane = array.shape[leading:]
    dtype = np.dtype(array.dtype).newbyteorder("<")
    for block in _blocks(array, shape, prod(plane) * dtype.itemsize):
        # a slice each: what is asked for lies in whole chunks
        pixels = np.ascontiguousarray(np.asarray(array[block]), dtype)
        expected = (*(s.stop - s.start for s in block), *plane)
        if pixels.shape != expected:
            raise ValueError(f"the array gave {pixels.shape} where {expected} was asked for")
        for within in np.ndindex(pixels.shape[:leading]):
            index = tuple(s.start + i for s, i in zip(block, within, strict=True))
            yield _number(index, shape), np.ascontiguousarray(pixels[within])


def _blocks(array: Any, shape: tuple[int, ...], plane_bytes: int) -> Iterator[tuple[slice, ...]]:
    edges = [_edges(n, size) for n, size in zip(shape, _chunks(array, shape), strict=True)]
    for block in product(*edges):
        yield from _pieces(block, max(1, MOST_BYTES // max(1, plane_bytes)))


def _chunks(array: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the chunk sizes along the leading axes: a number, or Dask's tuple of them."""
    # reading a part of a shard costs no more than that part, so that zarr's chunks are the unit
    chunks = getattr(array, "chunks", None)
    if not chunks:
        return [1] * len(shape)
    return list(chunks[: len(shape)])


def _edges(size: int, chunk: Any) -> list[slice]:
    lengths = chunk if isinstance(chunk, tuple) else [chunk] * -(-size // max(1, chunk))
    stops = np.minimum(np.cumsum(lengths, dtype=int), size).tolist()
    return [slice(a, b) for a, b in zip([0, *stops], stops, strict=False) if b > a]


def _pieces(block: tuple[slice, ...], most_planes: int) -> Iterator[tuple[slice, ...]]:
    """Return `block`, cut along its first long axis until each piece is small enough."""
    lengths = [s.stop - s.start for s in block]
    if prod(lengths) <= most_planes:
        yield block
        return
    axis = next(n for n, length in enumerate(lengths) if length > 1)
    middle = block[axis].start + lengths[axis] // 2
    for half in (slice(block[axis].start, middle), slice(middle, block[axis].stop)):
        yield from _pieces((*block[:axis], half, *block[axis + 1 :]), most_planes)


def _number(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    number = 0
    for i, n in zip(index, shape, strict=True):
        number = number * n + i
    return number


@dataclass(frozen=True, slots=True)
class ArrayDescription:
    """What an array holds.

    Attributes
    ----------
    name : str
        What readers show as the image's name.
    sizes : dict
        Axis (t, c, z) → size, slowest first.
    frame_shape : tuple of int
        ``(y, x)``, or ``(y, x, 3)`` for colour.
    dtype : str
        numpy's name of the pixel type.
    channels : tuple of str
        Names along c; empty where there are none.
    steps : dict
        Axis (x, y, z, t) → size of a pixel, distance of planes or of time points, with its unit.
    metadata : mapping
        Whatever else is known; goes in as key-value pairs.
    """

    name: str
    sizes: dict[str, int]
    frame_shape: tuple[int, ...]
    dtype: str
    channels: tuple[str, ...] = ()
    steps: dict[str, tuple[float, str]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def planes(self) -> int:
        """Number of planes."""
        return prod(self.sizes.values())

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane."""
        return prod(self.frame_shape) * np.dtype(self.dtype).itemsize


def write_tiff(
    path: Path, described: ArrayDescription, planes: Iterable[tuple[int, np.ndarray]]
) -> None:
    """Write a BigTIFF with OME-XML; on return it is on the disk.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    described : ArrayDescription
        What it will hold.
    planes : iterable of (int, np.ndarray)
        Each plane with its number in the order of ``described.sizes``; in any order.

    Raises
    ------
    DiskFullError
        If it does not fit; before the first plane, where the file system can tell.
    """
    around = lay_out(
        described.planes,
        described.frame_shape,
        described.dtype,
        xml=ome_xml(described),
        axes=described.sizes,
        pixel_size_um=_in_um(described.steps.get("x")),
    )
    file, pool = BlockFile(path), WritePool()
    try:
        file.claim(0, around.tail_offset + len(around.tail))
        for number, plane in planes:
            pool.write(file, DATA_OFFSET + number * described.plane_bytes, plane)
        pool.drain()
        put(file, around)
        file.sync()
    except OSError as error:
        raise explained(error, path, described.planes * described.plane_bytes) from error
    finally:
        pool.close()
        file.close()


def ome_xml(described: ArrayDescription) -> str:
    """Return the OME-XML of a file that holds the array and nothing else."""
    image = element("Image", {"ID": "Image:0", "Name": described.name}, _pixels(described))
    root = document()
    root.append(image)
    if described.metadata:
        ET.SubElement(image, "AnnotationRef", ID=_NOTE)
        root.append(_annotations(described.metadata))
    return to_xml(root)


def _pixels(described: ArrayDescription) -> ET.Element:
    sizes, shape = described.sizes, described.frame_shape
    made = pixels(0, sizes, shape, described.dtype, described.steps)
    names = described.channels or ("",) * sizes.get("c", 1)
    made.extend([channel(0, c, name, samples_of(shape)) for c, name in enumerate(names)])
    made.append(element("TiffData", {"IFD": 0, "PlaneCount": described.planes}))
    return made


def _annotations(metadata: Mapping[str, Any]) -> ET.Element:
    pairs = ET.Element("Value")
    for key, value in metadata.items():
        pair = element("M", {"K": str(key)})
        pair.text = _as_text(value)
        pairs.append(pair)
    return element("StructuredAnnotations", {}, element("MapAnnotation", {"ID": _NOTE}, pairs))


def _in_um(step: tuple[float, str] | None) -> float | None:
    if step is None or step[1] not in UM_PER_UNIT:
        return None
    return step[0] * UM_PER_UNIT[step[1]]


def _as_text(value: Any) -> str:
    return allowed(value if isinstance(value, str) else to_json(value).decode())


class MetaData(BaseModel):
    """What is known about frames; the names are those of OME. Only `axes` must be given.

    Sizes are in µm and times in s unless their units say otherwise. `Channel` takes a name, a
    list of names, or ``{"Name": …}``; `notes` a text, a list, or a mapping of notes.
    """

    model_config = ConfigDict(extra="forbid")

    axes: str
    TimeIncrement: Step | None = None
    TimeIncrementUnit: str = "s"
    PhysicalSizeX: Step | None = None
    PhysicalSizeXUnit: str = "µm"
    PhysicalSizeY: Step | None = None
    PhysicalSizeYUnit: str = "µm"
    PhysicalSizeZ: Step | None = None
    PhysicalSizeZUnit: str = "µm"
    Channel: str | list[str] | dict[str, JsonValue] | None = None
    notes: JsonValue | BaseModel = None

    @field_validator("TimeIncrementUnit")
    @classmethod
    def _is_time(cls, unit: str) -> str:
        return _known(unit, TIME_UNITS)

    @field_validator("PhysicalSizeXUnit", "PhysicalSizeYUnit", "PhysicalSizeZUnit")
    @classmethod
    def _is_length(cls, unit: str) -> str:
        return _known(unit, LENGTH_UNITS)

    @property
    def channel_names(self) -> list[str]:
        """The channels' names; empty where there are none."""
        named = self.Channel.get("Name") if isinstance(self.Channel, dict) else self.Channel
        names = [named] if isinstance(named, str) else named or []
        return list(names)  # type: ignore[arg-type]

    @property
    def steps(self) -> dict[str, tuple[float, str]]:
        """Axis → size of a step and its unit, as far as they are known."""
        known = {
            "x": (self.PhysicalSizeX, self.PhysicalSizeXUnit),
            "y": (self.PhysicalSizeY, self.PhysicalSizeYUnit),
            "z": (self.PhysicalSizeZ, self.PhysicalSizeZUnit),
            "t": (self.TimeIncrement, self.TimeIncrementUnit),
        }
        return {axis: (step, unit) for axis, (step, unit) in known.items() if step is not None}


class OutputParameters(BaseModel):
    """Where frames go: a folder, and a name without its suffix."""

    output_path: str | Path
    output_name: str

    @field_validator("output_name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if safe_name(name) != name:
            raise ValueError(f"{name!r} is no file name; {safe_name(name)!r} would be one")
        return name


def save_config_frames(config: MetaData, frames: Any, outputparams: OutputParameters) -> Path:
    """Save frames as ``<output_path>/<output_name>.ome.tiff`` with their metadata.

    The file, a BigTIFF, holds the metadata without the notes. The whole of it is in
    ``metadata.json``, which the next output in the same folder replaces, and in
    ``<output_name>.ome.tiff_metadata.json``, which is this one's own.

    Parameters
    ----------
    config : MetaData
        What is known.
    frames : array-like
        An axis for each letter of ``config.axes``.
    outputparams : OutputParameters
        Where it goes; the folder is made.

    Returns
    -------
    Path
        The image's file.

    Raises
    ------
    ValueError
        If metadata and frames do not fit together; nothing is written then.
    FileExistsError
        If there is an output of that name.
    """
    folder = Path(outputparams.output_path).expanduser().absolute()
    path = folder / f"{outputparams.output_name}.ome.tiff"
    array = _array(frames)
    described = describe(
        outputparams.output_name, array, config.axes, config.channel_names, config.steps, {}
    )
    about = config.model_dump(exclude_none=True)
    write_array(path, array, described, about)
    replace_bytes(folder / METADATA_SUFFIX[1:], to_json(about) + b"\n")
    return path


def _known(unit: str, units: tuple[str, ...]) -> str:
    unit = _SPELLINGS.get(unit, unit)
    if unit not in units:
        raise ValueError(f"{unit!r} is no unit of OME; they are {', '.join(units)}")
    return unit
