"""The final form of an image's arrays: the shape of what was taken, and no chunk beyond it.

Everything is found on the disk, so that it does not matter who wrote it, or with which options.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr_shards import read_index, seal
from mda_writers.formats.zarr_store import read_shape, sync_metadata, write_shape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout


def levels_of(group: Path) -> list[str]:
    """Return the names of an image's levels, the largest first."""
    names = [child.name for child in group.iterdir() if child.is_dir() and child.name.isdigit()]
    return sorted(names, key=int)


def finish_levels(group: Path, image: ImageLayout, places: np.ndarray, version: int) -> None:
    """Bring all levels of an image into their final form.

    Parameters
    ----------
    group : Path
        The image's group.
    image : ImageLayout
        The image with its final sizes.
    places : np.ndarray
        The places of the frames that are on disk, ``(frames, axes)`` in the order of the sizes.
    version : int
        Zarr's.
    """
    planes, sizes = _planes(image, places)
    for name in levels_of(group):
        folder = group / name
        shape = (*sizes, *read_shape(folder, version)[-2:])
        if version == 3:
            _finish_shards(folder, planes, shape)
        else:
            _remove_partial(folder)
        if shape != read_shape(folder, version):
            write_shape(folder, shape, version)
        sync_metadata(folder, version)


def damage(group: Path, image: ImageLayout) -> str:
    """Return what keeps a reader from the planes of an image; nothing if all is well."""
    import zarr

    try:
        array = zarr.open_array(group / "0", mode="r")
        if array.shape[-2:] != tuple(image.frame_shape[:2]) or array.dtype != image.dtype:
            return f"its array is {array.shape} {array.dtype}, not as it was written"
        if array.shards is not None:
            chunks = _chunks_a_shard(group / "0")
            for path, _ in _shards(group / "0"):
                read_index(path, chunks)
    except CorruptRecordingError as error:
        return str(error)
    except Exception as error:  # whatever altered metadata make zarr do
        return f"no readable Zarr array ({type(error).__name__}: {error})"
    return ""


def _planes(image: ImageLayout, places: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the places of all planes in NGFF's order, and the sizes of that."""
    columns = dict(zip(image.sizes, places.T, strict=True))
    sizes = dict(image.sizes)
    samples = image.frame_shape[2] if len(image.frame_shape) == 3 else 1
    if samples > 1:
        channel = columns.get("c", np.zeros(len(places), int))
        columns = {axis: np.repeat(column, samples) for axis, column in columns.items()}
        columns["c"] = (channel[:, np.newaxis] * samples + np.arange(samples)).reshape(-1)
        sizes["c"] = sizes.get("c", 1) * samples
    axes = [axis for axis in ("t", "c", "z") if axis in columns]
    count = len(places) * samples
    planes = np.stack([columns[a] for a in axes], axis=1) if axes else np.zeros((count, 0), int)
    return planes, tuple(sizes[axis] for axis in axes)


def _finish_shards(folder: Path, planes: np.ndarray, shape: tuple[int, ...]) -> None:
    box, tiles = _box(folder)
    numbers = np.zeros(len(planes), int)
    for i, n in zip(planes.T, box, strict=True):
        numbers = numbers * n + i % n
    keep: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for index, number in zip((planes // np.array(box, int)).tolist(), numbers, strict=True):
        keep[tuple(index)].update(range(number * tiles, (number + 1) * tiles))
    for path, index in list(_shards(folder)):
        if index in keep:
            seal(path, prod(box) * tiles, keep[index])
        else:
            path.unlink()


def _box(folder: Path) -> tuple[tuple[int, ...], int]:
    """Return the planes of a shard along each axis, and the chunks of a plane."""
    metadata = orjson.loads((folder / "zarr.json").read_bytes())
    shard = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    chunk = metadata["codecs"][0]["configuration"]["chunk_shape"]
    tiles = prod(n // m for n, m in zip(shard[-2:], chunk[-2:], strict=True))
    return tuple(shard[:-2]), tiles


def _chunks_a_shard(folder: Path) -> int:
    box, tiles = _box(folder)
    return prod(box) * tiles


def _shards(folder: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Return the shards of an array that exist, each with its place among them."""
    for path in (folder / "c").rglob("*"):
        if path.is_file():
            names: Any = path.relative_to(folder / "c").parts[:-2]
            yield path, tuple(map(int, names))


def _remove_partial(folder: Path) -> None:
    """Remove chunks that were cut off while they were written; no frame is in them."""
    for path in folder.rglob(".*.partial"):
        path.unlink()
