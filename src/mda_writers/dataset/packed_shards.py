"""Zarr shards whose chunks are compressed, or tiles: read and decoded one by one.

zarr-python reads a shard's index anew for every chunk, and goes through several threads for it.
Shards are not mapped here: a map would keep Windows from cutting a shard to its final length.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.shard_layout import version_of
from mda_writers.dataset.zarr_read import corrupt
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr_array import shard_path
from mda_writers.formats.zarr_shards import MISSING, index_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path

    from mda_writers.dataset.shard_layout import ShardLayout, Version

    Unpack = Callable[[bytes, np.ndarray], np.ndarray]

KNOWN = 256
"""Indices that are remembered: a few MB."""


class PackedShards:
    """Reads planes of one array.

    Parameters
    ----------
    folder : Path
        The array's folder.
    layout : ShardLayout
        How its shards are laid out.
    """

    def __init__(self, folder: Path, layout: ShardLayout) -> None:
        self._folder = folder
        self._grid = layout.grid
        self._unpack = _unpacker(layout.codec)
        self._indices: OrderedDict[tuple[int, ...], tuple[Version, np.ndarray]] = OrderedDict()

    def read(self, planes: list[tuple[int, ...]]) -> np.ndarray | None:
        """Return planes ``(n, y, x)``.

        None if one of them is not in its shard: zarr-python then says why.

        Raises
        ------
        CorruptRecordingError
            If a chunk is cut or cannot be decoded.
        """
        frames = np.empty((len(planes), *self._grid.yx), self._grid.dtype)
        there = [self._read_into(frame, plane) for frame, plane in zip(frames, planes, strict=True)]
        return frames if all(there) else None

    def _read_into(self, frame: np.ndarray, plane: tuple[int, ...]) -> bool:
        """Read a plane; False if it is not there, or the index of its shard is not whole."""
        shard, number = self._grid.shard_of(plane)
        path = shard_path(self._folder, shard)
        first = number * self._grid.tiles_a_plane
        try:
            with path.open("rb", buffering=0) as stream:
                index = self._index(stream, path, shard)
                entries = index[first : first + self._grid.tiles_a_plane].tolist()
                if any(offset == MISSING for offset, _ in entries):
                    return False
                self._fill(frame, (_read(stream, *entry) for entry in entries))
        except (FileNotFoundError, CorruptRecordingError):
            return False
        except (ValueError, RuntimeError, OSError) as error:
            raise corrupt(path, f"plane {plane}: {error}") from error
        return True

    def _index(self, stream: FileIO, path: Path, shard: tuple[int, ...]) -> np.ndarray:
        """Return a shard's index, read anew when the file has changed since."""
        version = version_of(os.fstat(stream.fileno()))
        known = self._indices.pop(shard, None)
        if known is None or known[0] != version:
            chunks = self._grid.planes_a_shard * self._grid.tiles_a_plane
            known = version, index_in(stream, path, chunks)
        self._indices[shard] = known
        if len(self._indices) > KNOWN:
            self._indices.popitem(last=False)
        return known[1]

    def _fill(self, frame: np.ndarray, chunks: Iterator[bytes]) -> None:
        """Decode the chunks of a plane; those at its edges stick out beyond it."""
        if self._grid.chunk_yx == frame.shape:
            self._unpack(next(chunks), frame)
            return
        height, width = self._grid.chunk_yx
        room = np.empty(self._grid.chunk_yx, frame.dtype)
        for (row, column), chunk in zip(np.ndindex(self._grid.tiles), chunks, strict=True):
            tile = self._unpack(chunk, room)
            part = frame[row * height : (row + 1) * height, column * width : (column + 1) * width]
            part[:] = tile[: part.shape[0], : part.shape[1]]


def _read(stream: FileIO, offset: int, nbytes: int) -> bytes:
    stream.seek(offset)
    chunk = stream.read(nbytes)
    if len(chunk) != nbytes:
        raise ValueError(f"it should end at byte {offset + nbytes}, and the file ends before")
    return chunk


def _unpacker(codec: str | None) -> Unpack:
    """Return what gives the pixels of a chunk, decoded into an array that it must fill exactly."""
    if codec is None:
        return _as_they_are
    from numcodecs import Blosc, Zstd

    if codec == "blosc":
        return partial(_decoded, Blosc().decode, _blosc_bytes)
    return partial(_decoded, Zstd().decode, _zstd_bytes)


def _as_they_are(chunk: bytes, room: np.ndarray) -> np.ndarray:
    _check_length(len(chunk), room)
    return np.frombuffer(chunk, room.dtype).reshape(room.shape)


def _decoded(
    decode: Callable[..., Any],
    decoded_bytes: Callable[[bytes], int],
    chunk: bytes,
    room: np.ndarray,
) -> np.ndarray:
    """Decode a chunk; one of another length would leave pixels as they were by chance."""
    _check_length(decoded_bytes(chunk), room)
    decode(chunk, out=room)
    return room


def _check_length(nbytes: int, room: np.ndarray) -> None:
    if nbytes != room.nbytes:
        raise ValueError(f"a chunk of {nbytes} instead of {room.nbytes} bytes")


def _blosc_bytes(chunk: bytes) -> int:
    """Return the decoded length that a chunk's header says.

    The header says the encoded length as well, and blosc reads as much, whatever there is.
    Source: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst .
    """
    encoded = int.from_bytes(chunk[12:16], "little")
    if encoded != len(chunk):
        raise ValueError(f"a chunk of {len(chunk)} bytes that says {encoded}")
    return int.from_bytes(chunk[4:8], "little")


def _zstd_bytes(chunk: bytes) -> int:
    """Return the decoded length that a chunk's header says. Source: RFC 8878, 3.1.1.1 ."""
    flags = chunk[4] if len(chunk) > 4 else 0
    single_segment = flags >> 5 & 1
    length = (single_segment, 2, 4, 8)[flags >> 6]
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(chunk[start : start + length], "little") + (256 if length == 2 else 0)
