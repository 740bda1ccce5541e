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
from mda_writers.formats.zarr_shards import MISSING, read_index, seal
from mda_writers.formats.zarr_store import read_shape, write_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mda_writers.formats.taken_planes import TakenPlanes
    from mda_writers.model.layout import ImageLayout


def levels_of(group: Path) -> list[str]:
    """Return the names of an image's levels, the largest first."""
    names = [child.name for child in group.iterdir() if child.is_dir() and child.name.isdigit()]
    return sorted(names, key=int)


def finish_levels(group: Path, planes: TakenPlanes, version: int, z_factor: int) -> None:
    """Bring all levels of an image into their final form.

    Parameters
    ----------
    group : Path
        The image's group.
    planes : TakenPlanes
        The planes that are on disk, at full resolution.
    version : int
        Zarr's.
    z_factor : int
        TakenPlanes that became one from one level to the next.
    """
    for number, name in enumerate(levels_of(group)):
        folder = group / name
        here = planes.at_level(number, z_factor)
        shape = (*here.sizes, *read_shape(folder, version)[-2:])
        _remove_torn(folder)
        if version == 3:
            _finish_shards(folder, here.places)
        else:
            _finish_files(folder, here.places)
        if shape != read_shape(folder, version):
            write_shape(folder, shape, version, safely=True)


def damage(group: Path, image: ImageLayout) -> str:
    """Return what keeps a reader from the planes of an image; nothing if all is well."""
    import zarr

    try:
        array = zarr.open_array(group / "0", mode="r")
        if array.shape[-2:] != tuple(image.frame_shape[:2]) or array.dtype != image.dtype:
            return f"its array is {array.shape} {array.dtype}, not as it was written"
        for name in levels_of(group):
            array = zarr.open_array(group / name, mode="r")
            is_blosc = "blosc" in str(array.compressors).lower()
            if array.shards is not None:
                chunks = _chunks_a_shard(group / name)
                for path, _ in shards_in(group / name):
                    index = read_index(path, chunks)
                    if is_blosc:
                        _check_lengths(path, index[index[:, 0] != MISSING].tolist())
            elif is_blosc:
                for path in _chunk_files(group / name):
                    _check_lengths(path, [(0, path.stat().st_size)])
    except CorruptRecordingError as error:
        return str(error)
    except Exception as error:  # whatever altered metadata make zarr do
        return f"no readable Zarr array ({type(error).__name__}: {error})"
    return ""


def _chunk_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.name.isdigit() and path.is_file())


def _check_lengths(path: Path, chunks: Iterable[Sequence[int]]) -> None:
    """Check that chunks of blosc say how long they are: not every reader looks at that.

    Raises
    ------
    CorruptRecordingError
        If one says something else.
    """
    with path.open("rb") as stream:
        for offset, nbytes in chunks:
            stream.seek(offset + 12)
            told = int.from_bytes(stream.read(4), "little")
            if told != nbytes:
                raise CorruptRecordingError(
                    f"{path}: the chunk at byte {offset} has {nbytes} bytes and says {told}"
                )


def _finish_shards(folder: Path, planes: np.ndarray) -> None:
    box, tiles = box_of(folder)
    numbers = np.zeros(len(planes), int)
    for i, n in zip(planes.T, box, strict=True):
        numbers = numbers * n + i % n
    keep: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for index, number in zip((planes // np.array(box, int)).tolist(), numbers, strict=True):
        keep[tuple(index)].update(range(number * tiles, (number + 1) * tiles))
    for path, index in list(shards_in(folder)):
        if index in keep:
            seal(path, prod(box) * tiles, keep[index])
        else:
            path.unlink()


def box_of(folder: Path) -> tuple[tuple[int, ...], int]:
    """Return the planes of a shard along each axis, and the chunks of a plane."""
    metadata = orjson.loads((folder / "zarr.json").read_bytes())
    shard = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    chunk = metadata["codecs"][0]["configuration"]["chunk_shape"]
    tiles = prod(n // m for n, m in zip(shard[-2:], chunk[-2:], strict=True))
    return tuple(shard[:-2]), tiles


def _chunks_a_shard(folder: Path) -> int:
    box, tiles = box_of(folder)
    return prod(box) * tiles


def shards_in(folder: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Return the shards of an array that exist, each with its place among them."""
    for path in (folder / "c").rglob("*"):
        if path.is_file() and path.name.isdigit():
            names: Any = path.relative_to(folder / "c").parts[:-2]
            yield path, tuple(map(int, names))


def _finish_files(folder: Path, planes: np.ndarray) -> None:
    """Remove the chunks of planes that are not in the journal."""
    keep = {tuple(map(str, place)) for place in planes.tolist()}
    for path in list(folder.rglob("*")):
        *place, row, column = ("", "", *path.relative_to(folder).parts)[-planes.shape[1] - 2 :]
        is_chunk = row.isdigit() and column.isdigit() and path.is_file()
        if is_chunk and tuple(place) not in keep:
            path.unlink()


def _remove_torn(folder: Path) -> None:
    """Remove files that a killed process had not finished: they never got their names."""
    for path in list(folder.rglob(".*")):
        if path.name.endswith((".partial", ".tmp")):
            path.unlink()
