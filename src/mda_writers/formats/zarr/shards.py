"""Shards of Zarr 3: written, given their final form, rewritten."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing, suppress
from functools import partial
from os import SEEK_END
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import CorruptRecordingError, DiskFullError
from mda_writers.formats.zarr.grid import Grid
from mda_writers.formats.zarr.ngff import ZARR_FORMAT
from mda_writers.formats.zarr.store import read_array, write_file
from mda_writers.storage.block_file import BLOCK, BlockFile
from mda_writers.storage.files import replacing
from mda_writers.storage.object_path import ObjectPath
from mda_writers.storage.write_pool import OrderedPool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from mda_writers.formats.zarr.options import ZarrOptions


MISSING = np.iinfo(np.uint64).max
"""Offset and length of a chunk that is not there; it reads as the fill value."""

CLAIM_BYTES = 128 << 10
"""Room that is claimed at first for chunks whose number or length nobody knows; then always as
much again as there is, since a claim waits for all writes to that file that are in flight."""

MOST_CLAIMED_BYTES = 64 << 20
"""Room that is claimed at once at most. What is left over is given back in the end."""

MOST_CHUNKS = (4096 - 4) // 16
"""Chunks of a shard whose index is written while frames come. It then lies in one page, and a
killed process writes a page as a whole or not at all; half an index would hide all chunks."""

_COPY_BYTES = 16 << 20

_ENTRY = np.dtype("<u8")

Place = tuple[int, ...]


# The files that hold chunks: shards of Zarr v3, and the single chunks of Zarr v2.
#
# A shard is chunks followed by an index: 16 bytes per chunk (offset and length, both all ones for a
# chunk that is not there) and the crc32c of these. Readers look for the index at the end of the
# file, so the file has its full length from the start, and the index never moves while frames
# come. ``docs/decisions/0008-zarr-shards.md`` tells how this keeps the file readable at every
# moment.
#
# Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html


class Shard:
    """One shard that is being filled.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    chunks : int
        Chunks in its index.
    data_bytes : int
        Room for their bytes.
    claim : bool
        Whether to reserve that room on the disk.
    offsets : np.ndarray or None
        Where each chunk will lie (-1 for none), where that is known beforehand; they are then in
        the index from the start. Without it chunks follow one another as they come.
    chunk_bytes : int
        Length of each chunk, where `offsets` are given.
    """

    def __init__(
        self,
        path: Path,
        chunks: int,
        data_bytes: int,
        *,
        claim: bool,
        offsets: np.ndarray | None = None,
        chunk_bytes: int = 0,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = BlockFile(path)
        self.end = 0
        self._claimed = 0
        self._data_bytes = data_bytes
        self._published = b""
        self._index = np.full((chunks, 2), MISSING, _ENTRY)
        if offsets is not None:
            there = offsets >= 0
            self._index[there, 0] = offsets[there]
            self._index[there, 1] = chunk_bytes
        try:
            self._lay_out(data_bytes + index_bytes(chunks), claim)
        except BaseException:
            self.file.close()
            raise

    def _lay_out(self, size: int, claim: bool) -> None:
        if claim:
            self.file.claim(0, size)
        else:
            self.file.truncate(size)
        self.publish()

    def append(self, nbytes: int) -> int:
        """Return the offset of the next chunk; its room is claimed with that of others.

        Raises
        ------
        DiskFullError
            If there is no room for it.
        """
        offset = self.end
        self.end += nbytes
        if self.end > self._claimed:
            self._claim(self.end - self._claimed)
        return offset

    def note(self, number: int, offset: int, nbytes: int) -> Shard:
        """Enter a chunk whose bytes are on the disk; `publish` makes it visible."""
        self._index[number] = offset, nbytes
        return self

    def publish(self) -> Path:
        """Write the index, in one system call."""
        index = encode_index(self._index)
        _patch_index(self.file, self._data_bytes, index, self._published)
        self._published = index
        return self.file.path

    def offset(self, number: int) -> int:
        """Return where a chunk lies; -1 if it has no place yet."""
        offset = self._index[number, 0]
        return -1 if offset == MISSING else int(offset)

    def close(self) -> None:
        """Return when everything would survive a power cut, and let go of the file."""
        try:
            self.file.sync()
        finally:
            self.file.close()

    def _claim(self, needed: int) -> None:
        """Reserve `needed` bytes more; those of later chunks as well, if there is room."""
        ahead = min(max(self._claimed, CLAIM_BYTES), MOST_CLAIMED_BYTES)
        more = min(max(needed, ahead), self._data_bytes - self._claimed)
        try:
            self.file.claim(self._claimed, more)
        except DiskFullError:
            self.file.claim(self._claimed, needed)
            more = needed
        self._claimed += more


class ChunkFile:
    """A single chunk as a file, as Zarr v2 has them; it gets its name when it is whole."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.file = BlockFile(path.with_name(f".{path.name}.partial"))

    def publish(self) -> Path:
        """Let the chunk be seen."""
        self.file.close()
        self.file.path.replace(self._path)
        self.file.path = self._path
        return self._path

    def sync(self) -> None:
        """Return when the chunk would survive a power cut."""
        try:
            if self.file.path == self._path:
                self.file.sync()
        finally:
            self.file.close()

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def index_bytes(chunks: int) -> int:
    """Return the length of a shard's index."""
    return 16 * chunks + 4


def encode_index(index: np.ndarray) -> bytes:
    """Return an index ``(chunks, 2)`` with its checksum behind it."""
    from google_crc32c import value as crc32c

    content = index.astype(_ENTRY, copy=False).tobytes()
    return content + int(crc32c(content)).to_bytes(4, "little")


def read_index(path: Path, chunks: int) -> np.ndarray:
    """Return the index of a shard, ``(chunks, 2)``: offset and length.

    Raises
    ------
    CorruptRecordingError
        If the file is cut, or its checksum does not fit.
    """
    with path.open("rb") as stream:
        return index_in(stream, path, chunks)


def index_in(stream: IO[bytes], path: Path, chunks: int) -> np.ndarray:
    """Return the index of an open shard, as `read_index` does."""
    size = index_bytes(chunks)
    stream.seek(max(0, stream.seek(0, SEEK_END) - size))
    content = stream.read()
    index = np.frombuffer(content[: 16 * chunks], _ENTRY)
    if len(content) != size or encode_index(index) != content:
        raise CorruptRecordingError(
            f"{path}: the index of this shard is cut or altered; its {chunks} chunks cannot be "
            "found. The other shards of the recording are not affected."
        )
    return index.reshape(chunks, 2).copy()


def seal(path: Path, chunks: int, keep: Collection[int]) -> None:
    """Bring a shard into its final form: no other chunks than `keep`, and no longer than needed.

    The new index is behind the last chunk before the file is cut there: whenever a reader
    comes, or the process is killed, one of the two indices is at the end of the file.
    """
    old = read_index(path, chunks)
    index = old.copy()
    gone = np.ones(chunks, bool)
    gone[list(keep)] = False
    index[gone] = MISSING
    there = index[index[:, 0] != MISSING]
    if not len(there):
        path.unlink()
        return
    size, length = path.stat().st_size, index_bytes(chunks)
    end = int(there.sum(axis=1).max())
    changed = not np.array_equal(index, old)
    overlap = end + length > size - length
    is_in_a_block = (size - length) // BLOCK == (size - 1) // BLOCK
    if changed and overlap:
        _write_anew(path, end, encode_index(index))
        return
    file = BlockFile(path, direct=False)
    try:
        if changed and is_in_a_block:
            # the new one may lie on chunks that are gone, and readers must not look for these
            _patch_index(file, size - length, encode_index(index), encode_index(old))
        if not overlap:
            file.sync()
            file.patch(end, encode_index(index))
            file.sync()
            file.truncate(end + length)
        file.sync()
    finally:
        file.close()


def _patch_index(file: BlockFile, offset: int, index: bytes, old: bytes) -> None:
    """Write an index over an older one; where only half of it can be written, put that back."""
    try:
        file.patch(offset, index)
    except OSError:
        with suppress(OSError):
            file.patch(offset, old)
        raise


def _write_anew(path: Path, end: int, index: bytes) -> None:
    """Put a copy of a shard's first bytes in its place, with an index behind them."""
    with path.open("rb") as old, replacing(path) as new:
        while piece := old.read(min(_COPY_BYTES, end - old.tell())):
            new.write(piece)
        new.write(index)


def room_for(chunks: int, chunk_bytes: int, compressed: bool) -> int:
    """Return room for the chunks of a shard, such that its index lies in a block of its own.

    A codec may make a chunk longer instead of shorter.
    """
    if compressed:
        chunk_bytes += chunk_bytes // 64 + 256
    return -(-chunks * chunk_bytes // BLOCK) * BLOCK


# One level of an image as it lies in its store: its planes, and new ones.
#
# It is read without zarr-python, which reads nothing any more while an interpreter exits, when
# open recordings still have to be completed.


def stored_level(folder: Path | ObjectPath, dtype: str, options: ZarrOptions) -> StoredLevel:
    """Return the level that lies in `folder`."""
    metadata = read_array(folder, ZARR_FORMAT[options.version])
    sharded = ZARR_FORMAT[options.version] == 3 and _sharding(metadata) is not None
    return (ShardedLevel if sharded else StoredLevel)(folder, metadata, dtype, options)


class StoredLevel:
    """A level whose chunks are files or objects of their own."""

    def __init__(
        self, folder: Any, metadata: dict[str, Any], dtype: str, options: ZarrOptions
    ) -> None:
        self.folder = folder
        self.grid = _grid(metadata, dtype)
        compression = options.compression
        self._encode = compression.encoder() if compression else None
        self._decode = compression.decoder() if compression else None
        self._indices: dict[Place, np.ndarray] = {}
        self._prefix = ("c",) if ZARR_FORMAT[options.version] == 3 else ()

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

    def write(self, places: Iterable[Place], make: Callable[[Place], np.ndarray]) -> None:
        """Write planes, which `make` returns on any thread."""
        with closing(OrderedPool()) as pool:
            for place in places:
                pool.later(partial(self._put, place, make), lambda _: None)
            pool.drain()

    # ------------------------------------------------------------ helpers

    def _put(self, place: Place, make: Callable[[Place], np.ndarray]) -> None:
        tiles = np.ndindex(self.grid.tiles)
        for tile, chunk in zip(tiles, self._made(make, place), strict=True):
            file = self._file(place, tile)
            if not isinstance(file, ObjectPath):
                file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, bytes(chunk))

    def _file(self, place: Place, tile: Place) -> Any:
        return self.folder.joinpath(*self._prefix, *map(str, (*place, *tile)))

    def _chunks(self, place: Place) -> list[bytes]:
        return [self._file(place, tile).read_bytes() for tile in np.ndindex(self.grid.tiles)]

    def _made(self, make: Callable[[Place], np.ndarray], place: Place) -> list[Any]:
        """Return the chunks of a new plane, encoded."""
        tiles = tiles_of(make(place), self.grid)
        if self._encode is None:
            return [tile.reshape(-1).view(np.uint8).data for tile in tiles]
        return [self._encode(tile) for tile in tiles]


class ShardedLevel(StoredLevel):
    """A level whose chunks lie in shards."""

    folder: Path

    def write(self, places: Iterable[Place], make: Callable[[Place], np.ndarray]) -> None:
        """Write shards of these planes, which `make` returns on any thread.

        A shard is written beside and put in place whole. One of an earlier attempt goes before,
        so that the room that was claimed for it is that of the new one.
        """
        by_shard: defaultdict[Place, list[Place]] = defaultdict(list)
        for place in places:
            by_shard[self.grid.shard_of(place)[0]].append(place)
        with closing(OrderedPool()) as pool:
            for shard, inside in by_shard.items():
                self._write(shard, sorted(inside), make, pool)

    # ------------------------------------------------------------ helpers

    def _write(
        self,
        shard: Place,
        places: Sequence[Place],
        make: Callable[[Place], np.ndarray],
        pool: OrderedPool,
    ) -> None:
        path = shard_path(self.folder, shard)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        tiles = self.grid.tiles_a_plane
        index = np.full((self.grid.planes_a_shard * tiles, 2), MISSING, _ENTRY)
        with replacing(path) as stream:

            def put(first: int, chunks: list[Any]) -> None:
                for number, chunk in enumerate(chunks, first):
                    index[number] = stream.tell(), len(chunk)
                    stream.write(chunk)

            for place in places:
                first = self.grid.shard_of(place)[1] * tiles
                pool.later(partial(self._made, make, place), partial(put, first))
            pool.drain()
            stream.write(encode_index(index))

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


def shard_path(folder: Path, index: tuple[int, ...]) -> Path:
    """Return the file of a shard of Zarr v3 (default chunk key encoding); y and x have but one."""
    return folder.joinpath("c", *map(str, index), "0", "0")


def tiles_of(plane: np.ndarray, grid: Grid) -> Iterator[np.ndarray]:
    """Return a plane's chunks; those that stick out beyond it are filled up with zeros."""
    if plane.shape == grid.chunk_yx:
        yield np.ascontiguousarray(plane)
        return
    height, width = grid.chunk_yx
    for row, column in np.ndindex(grid.tiles):
        part = plane[row * height : (row + 1) * height, column * width : (column + 1) * width]
        if part.shape == grid.chunk_yx:
            yield np.ascontiguousarray(part)
            continue
        tile = np.zeros(grid.chunk_yx, plane.dtype)
        tile[: part.shape[0], : part.shape[1]] = part
        yield tile


def box_of(folder: Path) -> tuple[tuple[int, ...], int]:
    """Return the planes of a shard along each axis, and the chunks of a plane."""
    metadata = read_array(folder, 3)
    grid = _grid(metadata, metadata["data_type"])
    return grid.box, grid.tiles_a_plane


def shards_in(folder: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Return the shards of an array that exist, each with its place among them."""
    for path in (folder / "c").rglob("*"):
        if path.is_file() and path.name.isdigit():
            names: Any = path.relative_to(folder / "c").parts[:-2]
            yield path, tuple(map(int, names))
