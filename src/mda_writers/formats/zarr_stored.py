"""One level of an image as it lies in its store: which planes it has, what they are, new ones.

It is read without zarr-python, which reads nothing any more while an interpreter exits, when open
recordings still have to be completed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.ngff import ZARR_FORMAT
from mda_writers.formats.zarr_array import shard_path, tiles_of
from mda_writers.formats.zarr_final import shards_in
from mda_writers.formats.zarr_grid import Grid
from mda_writers.formats.zarr_shards import MISSING, encode_index, read_index
from mda_writers.formats.zarr_store import read_array, write_file
from mda_writers.storage.atomic import replacing
from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set
    from pathlib import Path

    from mda_writers.formats.zarr_options import ZarrOptions

Place = tuple[int, ...]


def stored_level(folder: Path | ObjectPath, dtype: str, options: ZarrOptions) -> StoredLevel:
    """Return the level that lies in `folder`."""
    metadata = read_array(folder, ZARR_FORMAT[options.version])
    sharded = ZARR_FORMAT[options.version] == 3 and _sharding(metadata) is not None
    return (ShardedLevel if sharded else StoredLevel)(folder, metadata, dtype, options)


class StoredLevel:
    """A level whose chunks are files or objects of their own.

    Parameters
    ----------
    folder : Path or ObjectPath
        The array's folder.
    metadata : dict
        What the array says about itself.
    dtype : str
        Pixel type.
    options : ZarrOptions
        How it is stored.
    """

    def __init__(
        self, folder: Any, metadata: dict[str, Any], dtype: str, options: ZarrOptions
    ) -> None:
        self.folder = folder
        self.sizes: Place = tuple(metadata["shape"][:-2])
        self.grid = _grid(metadata, dtype)
        compression = options.compression
        self._encode = compression.encoder() if compression else None
        self._decode = compression.decoder() if compression else None
        self._indices: dict[Place, np.ndarray] = {}
        self._prefix = ("c",) if ZARR_FORMAT[options.version] == 3 else ()

    def places(self) -> set[Place]:
        """Return the places of the planes that are there as a whole."""
        tiles: defaultdict[Place, int] = defaultdict(int)
        for name in self._names():
            parts = name.split("/")[len(self._prefix) :]
            if len(parts) == len(self.sizes) + 2 and all(part.isdigit() for part in parts):
                tiles[tuple(map(int, parts[:-2]))] += 1
        return {place for place, count in tiles.items() if count == self.grid.tiles_a_plane}

    def read(self, place: Place) -> np.ndarray:
        """Return the plane at `place`, ``(y, x)``."""
        height, width = self.grid.chunk_yx
        plane = np.empty(self.grid.shard_shape[-2:], self.grid.dtype)
        tiles = np.ndindex(self.grid.tiles)
        for (row, column), chunk in zip(tiles, self._chunks(place), strict=True):
            raw = chunk if self._decode is None else self._decode(chunk)
            pixels = np.frombuffer(raw, self.grid.dtype).reshape(height, width)
            plane[row * height : (row + 1) * height, column * width : (column + 1) * width] = pixels
        return plane[: self.grid.yx[0], : self.grid.yx[1]]

    def complete(
        self,
        wanted: Iterable[Place],
        lacking: Set[Place],
        make: Callable[[Place], np.ndarray],
    ) -> None:
        """Make the planes that are lacking, of all that are wanted."""
        for place in lacking:
            for tile, chunk in zip(
                np.ndindex(self.grid.tiles), self._encoded(make(place)), strict=True
            ):
                file = self._file(place, tile)
                if not isinstance(file, ObjectPath):
                    file.parent.mkdir(parents=True, exist_ok=True)
                write_file(file, bytes(chunk))

    # ------------------------------------------------------------ helpers

    def _names(self) -> Iterable[str]:
        if isinstance(self.folder, ObjectPath):
            return self.folder.names()
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return [path.relative_to(self.folder).as_posix() for path in files]

    def _file(self, place: Place, tile: Place) -> Any:
        return self.folder.joinpath(*self._prefix, *map(str, (*place, *tile)))

    def _chunks(self, place: Place) -> list[bytes]:
        return [self._file(place, tile).read_bytes() for tile in np.ndindex(self.grid.tiles)]

    def _encoded(self, plane: np.ndarray) -> list[Any]:
        tiles = tiles_of(plane, self.grid)
        if self._encode is None:
            return [tile.reshape(-1).view(np.uint8).data for tile in tiles]
        return [self._encode(tile) for tile in tiles]


class ShardedLevel(StoredLevel):
    """A level whose chunks lie in shards."""

    folder: Path

    def places(self) -> set[Place]:
        """Return the places of the planes that are there as a whole."""
        found: set[Place] = set()
        for _, shard in shards_in(self.folder):
            index = self._index(shard)
            whole = (index[:, 0] != MISSING).reshape(-1, self.grid.tiles_a_plane).all(axis=1)
            corner = np.multiply(shard, self.grid.box)
            inside = np.stack(np.unravel_index(np.flatnonzero(whole), self.grid.box), axis=1)
            found.update(map(tuple, (inside + corner).tolist()))
        return found

    def complete(
        self,
        wanted: Iterable[Place],
        lacking: Set[Place],
        make: Callable[[Place], np.ndarray],
    ) -> None:
        """Make the planes that are lacking, of all that are wanted.

        A shard that lacks some is written anew beside, and put in place whole: whoever reads it,
        or is killed, has the old one or the new one.
        """
        by_shard: defaultdict[Place, list[Place]] = defaultdict(list)
        for place in wanted:
            by_shard[self.grid.shard_of(place)[0]].append(place)
        for shard, places in by_shard.items():
            if not lacking.isdisjoint(places):
                self._write(shard, {p: p in lacking for p in sorted(places)}, make)

    # ------------------------------------------------------------ helpers

    def _write(
        self, shard: Place, places: dict[Place, bool], make: Callable[[Place], np.ndarray]
    ) -> None:
        """Write a shard of some planes; those that are marked are made, the others copied."""
        path = shard_path(self.folder, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        tiles = self.grid.tiles_a_plane
        index = np.full((self.grid.planes_a_shard * tiles, 2), MISSING, np.uint64)
        with replacing(path) as stream:
            for place, lacking in places.items():
                chunks = self._encoded(make(place)) if lacking else self._chunks(place)
                first = self.grid.shard_of(place)[1] * tiles
                for number, chunk in enumerate(chunks, first):
                    index[number] = stream.tell(), len(chunk)
                    stream.write(chunk)
            stream.write(encode_index(index))
        self._indices.pop(shard, None)

    def _chunks(self, place: Place) -> list[bytes]:
        shard, number = self.grid.shard_of(place)
        first = number * self.grid.tiles_a_plane
        chunks = []
        with shard_path(self.folder, shard).open("rb") as stream:
            for offset, length in self._index(shard)[first : first + self.grid.tiles_a_plane]:
                stream.seek(int(offset))
                chunks.append(stream.read(int(length)))
        return chunks

    def _index(self, shard: Place) -> np.ndarray:
        if shard not in self._indices:
            chunks = self.grid.planes_a_shard * self.grid.tiles_a_plane
            self._indices[shard] = read_index(shard_path(self.folder, shard), chunks)
        return self._indices[shard]


def _grid(metadata: dict[str, Any], dtype: str) -> Grid:
    """Return how an array is cut into chunks."""
    height, width = metadata["shape"][-2:]
    leading = tuple(1 for _ in metadata["shape"][:-2])
    if "chunks" in metadata:
        chunk, box = metadata["chunks"], leading
    else:
        whole = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        chunk = _sharding(metadata) or whole
        box = leading if chunk is whole else tuple(whole[:-2])
    chunk_yx = (int(chunk[-2]), int(chunk[-1]))
    return Grid((), (), 1, (height, width), chunk_yx, box, dtype, sharded=box is not leading)


def _sharding(metadata: dict[str, Any]) -> list[int] | None:
    """Return the shape of the chunks within a shard; None where there are no shards."""
    first = metadata["codecs"][0]
    if first["name"] != "sharding_indexed":
        return None
    shape: list[int] = first["configuration"]["chunk_shape"]
    return shape
