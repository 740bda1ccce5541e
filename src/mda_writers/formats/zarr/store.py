"""Metadata of Zarr groups and arrays: made by zarr-python, put in place whole."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_indented_json
from mda_writers.storage.files import replacing
from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mda_writers.formats.zarr.grid import Grid
    from mda_writers.formats.zarr.options import Compression

_ARRAY_FILE = {2: ".zarray", 3: "zarr.json"}
_GROUP_FILE = {2: ".zgroup", 3: "zarr.json"}


def write_group(
    folder: Path | ObjectPath, attributes: Mapping[str, Any], version: int, *, safely: bool
) -> list[Path]:
    """Make `folder` a group with these attributes, or give the group there new ones.

    Parameters
    ----------
    folder : Path or ObjectPath
        The group.
    attributes : mapping
        What it says about itself.
    version : int
        Zarr's.
    safely : bool
        Whether a power cut must leave the old ones or these; it takes the disk a few milliseconds.

    Returns
    -------
    list of Path
        The files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if version == 3:
        files = {"zarr.json": _group(3) | {"attributes": dict(attributes)}}
    else:
        files = {".zattrs": dict(attributes), ".zgroup": _group(2)}
    return _put_all(folder, {name: _json(content) for name, content in files.items()}, safely)


def write_file(path: Path | ObjectPath, content: bytes) -> None:
    """Put a file in place; a power cut leaves the old one or this one."""
    _put(path, content, safely=True)


def read_attributes(folder: Path | ObjectPath, version: int) -> dict[str, Any]:
    """Return the attributes of a group or array."""
    if version == 2:
        content: dict[str, Any] = orjson.loads((folder / ".zattrs").read_bytes())
        return content
    content = orjson.loads((folder / "zarr.json").read_bytes())
    attributes: dict[str, Any] = content.get("attributes", {})
    return attributes


def is_group(folder: Path | ObjectPath, version: int) -> bool:
    """Return whether there is a group of that Zarr version."""
    return (folder / _GROUP_FILE[version]).exists()


def is_array(folder: Path | ObjectPath, version: int) -> bool:
    """Return whether there is an array of that Zarr version."""
    return (folder / _ARRAY_FILE[version]).exists()


def write_array(
    folder: Path | ObjectPath,
    grid: Grid,
    sizes: tuple[int, ...],
    version: int,
    compression: Compression | None,
) -> list[Path]:
    """Make `folder` an empty array, and return the files that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    return _put_all(folder, _array(grid, sizes, version, compression), safely=False)


def read_array(folder: Path | ObjectPath, version: int) -> dict[str, Any]:
    """Return what an array says about itself.

    Raises
    ------
    CorruptRecordingError
        If it is cut or altered.
    """
    path = folder / _ARRAY_FILE[version]
    try:
        metadata = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise CorruptRecordingError(f"{path}: cut or altered ({error}).") from error
    return dict(metadata)


def read_shape(folder: Path | ObjectPath, version: int) -> tuple[int, ...]:
    """Return the shape of an array."""
    return tuple(read_array(folder, version)["shape"])


def write_shape(
    folder: Path | ObjectPath, shape: tuple[int, ...], version: int, *, safely: bool
) -> Path | None:
    """Give an array another shape; nothing but its metadata changes.

    For `safely`, see `write_group`; returns the file that was written.
    """
    metadata = read_array(folder, version) | {"shape": list(shape)}
    files = _put_all(folder, {_ARRAY_FILE[version]: _json(metadata)}, safely)
    return files[0] if files else None


@lru_cache(maxsize=64)
def _array(
    grid: Grid, sizes: tuple[int, ...], version: int, compression: Compression | None
) -> dict[str, bytes]:
    """Return the files that describe an array, as zarr-python writes them."""
    import numpy as np
    import zarr
    from zarr.storage import MemoryStore

    dtype = np.dtype(grid.dtype)
    files: dict[str, Any] = {}
    options: dict[str, Any] = {
        "shape": (*sizes, *grid.yx),
        "dtype": dtype,
        "fill_value": False if dtype.kind == "b" else 0,
        "compressors": compression.for_zarr(version, dtype.itemsize) if compression else None,
        "filters": None,
        "zarr_format": version,
    }
    if version == 3:
        options["chunks"] = grid.chunk_shape
        options["shards"] = grid.shard_shape if grid.sharded else None
        options["dimension_names"] = [*grid.axes, "y", "x"]
    else:
        options["chunks"] = grid.chunk_shape
        options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    zarr.create_array(MemoryStore(files), **options)
    return {name: content.to_bytes() for name, content in files.items()}


@lru_cache(maxsize=2)
def _group(version: Literal[2, 3]) -> dict[str, Any]:
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    zarr.create_group(MemoryStore(files), zarr_format=version)
    content: dict[str, Any] = orjson.loads(files[_GROUP_FILE[version]].to_bytes())
    return content


def _put_all(folder: Path | ObjectPath, files: Mapping[str, bytes], safely: bool) -> list[Path]:
    for name, content in files.items():
        _put(folder / name, content, safely)
    return [] if isinstance(folder, ObjectPath) else [folder / name for name in files]


def _put(path: Path | ObjectPath, content: bytes, safely: bool) -> None:
    """Replace a file, all or nothing for whoever reads it and for a killed process.

    Arrays grow while frames come, so that the disk is not waited for unless it has to be; where
    a power cut must not take back the new one either, somebody syncs it or its folder.
    """
    if isinstance(path, ObjectPath):  # an object is put whole, or not at all
        path.write_bytes(content)
        return
    with replacing(path, safely=safely) as stream:
        stream.write(content)


def _json(content: Any) -> bytes:
    return to_indented_json(content)
