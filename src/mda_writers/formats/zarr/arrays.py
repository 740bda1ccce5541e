"""Arrays of an OME-Zarr: what takes frames by index and fills chunks with them."""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.zarr.shards import ChunkFile, Shard, room_for, shard_path, tiles_of
from mda_writers.formats.zarr.store import write_array, write_shape
from mda_writers.storage.block_file import sync_file_system

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mda_writers.formats.zarr.grid import Grid
    from mda_writers.formats.zarr.options import Compression
    from mda_writers.storage.write_pool import OrderedPool


class ZarrArray:
    """One array that is being filled.

    Here chunks lie in shards in order of arrival: they are compressed, or nobody knows how many
    will come. A chunk is in the index, and within the shape, once its bytes are on the disk.
    """

    def __init__(
        self,
        folder: Any,
        grid: Grid,
        sizes: tuple[int, ...],
        version: int,
        compression: Compression | None,
        pool: OrderedPool,
    ) -> None:
        self.folder = folder
        self.grid = grid
        self.sizes = sizes  # planes along each of the grid's axes; those so far, if it grows
        self._visible = sizes
        self._version = version
        self._encode = compression.encoder() if compression else None
        self._pool = pool
        self._files: dict[tuple[int, ...], Any] = {}
        for file in write_array(folder, grid, sizes, version, compression):
            pool.note(file)

    def __getstate__(self) -> dict[str, Any]:
        # another process fills single shards of it
        return {**self.__dict__, "_pool": None, "_files": {}}

    def chunks_of(self, plane: np.ndarray) -> list[np.ndarray]:
        """Return the bytes of a plane's chunks. May be called on any thread."""
        tiles = list(tiles_of(plane, self.grid))
        if self._encode is None:
            return tiles
        return [np.frombuffer(self._encode(tile), np.uint8) for tile in tiles]

    def put(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        """Take the chunks of the plane at `place` to the disk."""
        self._grow(place)
        self._put(place, chunks)

    def close(self) -> None:
        """Return when everything would survive a power cut, and let go of the files."""
        close_all(self._files.values())

    def publish(self) -> Path | None:
        """Make the frames visible that are on the disk: give the array their shape."""
        shape = (*self._visible, *self.grid.yx)
        return write_shape(self.folder, shape, self._version, safely=self._pool.durable)

    def new_shard(self, index: tuple[int, ...]) -> Shard:
        """Make an empty shard."""
        grid = self.grid
        chunks = grid.planes_a_shard * grid.tiles_a_plane
        room = room_for(chunks, grid.chunk_bytes, compressed=self._encode is not None)
        return Shard(shard_path(self.folder, index), chunks, room, claim=False)

    # ------------------------------------------------------------ helpers

    def _put(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        index, number = self.grid.shard_of(place)
        shard = self._files.get(index)
        if shard is None:
            shard = self._files[index] = self.new_shard(index)
        for tile, chunk in enumerate(chunks, number * self.grid.tiles_a_plane):
            offset = shard.append(chunk.nbytes)
            self._pool.write(shard.file, offset, chunk)
            self._pool.when_landed(partial(shard.note, tile, offset, chunk.nbytes))

    def _grow(self, place: tuple[int, ...]) -> None:
        grown = tuple(max(n, i + 1) for n, i in zip(self.sizes, place, strict=True))
        if grown != self.sizes:
            self.sizes = grown
            self._pool.when_landed(partial(self._see, grown))

    def _see(self, sizes: tuple[int, ...]) -> ZarrArray:
        self._visible = sizes
        return self


class LaidOutArray(ZarrArray):
    """An uncompressed array of known sizes: all shards are there before the first frame.

    Their indices are complete from the start, so that nothing needs to be published: a frame
    that never came reads as zeros.
    """

    def lay_out(self, claim: bool) -> None:
        """Make all shards; reserve their room on the disk, if `claim`."""
        for index in self.grid.shards(self.sizes):
            shard = self._files[index] = self.new_shard(index, claim=claim)
            self._pool.note(shard.file.path)  # readers look into it, though no frame came for it

    def put(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        """Take the chunks of the plane at `place` to the disk."""
        index, number = self.grid.shard_of(place)
        shard = self._files[index]
        for tile, chunk in enumerate(chunks, number * self.grid.tiles_a_plane):
            self._pool.write(shard.file, shard.offset(tile), chunk)

    def new_shard(self, index: tuple[int, ...], *, claim: bool = False) -> Shard:
        """Make a shard whose index is complete; reserve its room on the disk, if `claim`."""
        inside = self.grid.inside(index, self.sizes)
        offsets = _offsets(self.grid, inside)
        return Shard(
            shard_path(self.folder, index),
            len(offsets),
            prod(inside) * self.grid.tiles_a_plane * self.grid.chunk_bytes,
            claim=claim,
            offsets=offsets,
            chunk_bytes=self.grid.chunk_bytes,
        )


class UnshardedArray(ZarrArray):
    """An array of Zarr v2: every chunk is a file, which gets its name when it is on the disk."""

    def close(self) -> None:
        """Return when everything would survive a power cut, and let go of the files."""
        for file in self._files.values():
            file.close()
        if not sync_file_system(self.folder):
            for file in self._files.values():
                file.sync()

    def _put(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        tiles = np.ndindex(self.grid.tiles)
        for tile, chunk in zip(tiles, chunks, strict=True):
            file = ChunkFile(self.folder.joinpath(*map(str, (*place, *tile))))
            self._files[(*place, *tile)] = file
            self._pool.write(file.file, 0, chunk)
            self._pool.when_landed(partial(_itself, file))


def close_all(files: Iterable[Any]) -> None:
    """Close files, or arrays, whatever becomes of the others; raise what the first one raised."""
    errors = []
    for file in files:
        try:
            file.close()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _itself(file: ChunkFile) -> ChunkFile:
    return file


@lru_cache(maxsize=256)
def _offsets(grid: Grid, inside: tuple[int, ...]) -> np.ndarray:
    """Return where each chunk of a shard lies, by its number in the index; -1 for none."""
    ranks = grid.ranks(inside)[:, np.newaxis]
    tiles = grid.tiles_a_plane
    offsets = (ranks * tiles + np.arange(tiles)) * grid.chunk_bytes
    return np.where(ranks < 0, -1, offsets).reshape(-1)
