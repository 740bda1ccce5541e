"""Metadata of Zarr groups and arrays: made by zarr-python, put in place whole."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_indented_json
from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mda_writers.formats.zarr_codecs import Compression
    from mda_writers.formats.zarr_grid import Grid

_ARRAY_FILE = {2: ".zarray", 3: "zarr.json"}
_GROUP_FILE = {2: ".zgroup", 3: "zarr.json"}


def write_group(folder: Path | ObjectPath, attributes: Mapping[str, Any], version: int) -> None:
    """Make `folder` a group with these attributes, or give the group there new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == 3:
        group = _group(3) | {"attributes": dict(attributes)}
        _put(folder / "zarr.json", _json(group))
        return
    _put(folder / ".zattrs", _json(attributes))
    _put(folder / ".zgroup", _json(_group(2)))


def write_file(path: Path | ObjectPath, content: bytes) -> None:
    """Put a file beside the metadata of a group; on return it would survive a power cut."""
    _put(path, content)
    if not isinstance(path, ObjectPath):
        _sync(path)


def sync_metadata(folder: Path | ObjectPath, version: int) -> None:
    """Return when the metadata of a group or array would survive a power cut."""
    if isinstance(folder, ObjectPath):
        return
    for name in {".zattrs", _ARRAY_FILE[version], _GROUP_FILE[version]}:
        if (path := folder / name).exists():
            _sync(path)


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
) -> None:
    """Make `folder` an empty array."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _array(grid, sizes, version, compression).items():
        _put(folder / name, content)


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


def write_shape(folder: Path | ObjectPath, shape: tuple[int, ...], version: int) -> None:
    """Give an array another shape; nothing but its metadata changes."""
    metadata = read_array(folder, version) | {"shape": list(shape)}
    _put(folder / _ARRAY_FILE[version], _json(metadata))


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


def _put(path: Path | ObjectPath, content: bytes) -> None:
    """Replace a file, all or nothing for whoever reads it and for a killed process.

    Arrays grow while frames come, so the disk is not waited for: see `sync_metadata`.
    """
    if isinstance(path, ObjectPath):  # an object is put whole, or not at all
        path.write_bytes(content)
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_bytes(content)
    beside.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _json(content: Any) -> bytes:
    return to_indented_json(content)
