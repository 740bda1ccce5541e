"""Uncompressed Zarr shards through memory maps: raw chunks whose places their index tells.

zarr-python copies every chunk several times; a map gives a view at the speed of the page cache.
Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/ .
"""

from __future__ import annotations

from collections import OrderedDict
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

OPEN = 64
"""Shards mapped at once."""

_ABSENT = 2**64 - 1
_CRC_BYTES = 4


class ShardMaps:
    """Reads whole planes of one array.

    Parameters
    ----------
    folder : Path
        The array's folder.
    array : zarr.Array
        One for which `can_map` holds.
    """

    def __init__(self, folder: Path, array: Any) -> None:
        self._folder = folder
        self._shards = array.shards
        self._inside = tuple(n // m for n, m in zip(array.shards, array.chunks, strict=True))
        self._plane_shape = array.chunks[-2:]
        self._dtype = np.dtype(array.dtype).newbyteorder("<")
        self._nbytes = prod(array.chunks) * self._dtype.itemsize
        self._at_end = array.metadata.codecs[0].index_location.value == "end"
        self._maps: OrderedDict[tuple[int, ...], tuple[Any, np.ndarray, np.ndarray]]
        self._maps = OrderedDict()

    def read(self, planes: list[tuple[int, ...]]) -> np.ndarray | None:
        """Return planes ``(n, y, x)``: a view where they lie side by side in one shard.

        None if one of them is not in its shard: zarr-python then says why.
        """
        found = [self._find(plane) for plane in planes]
        if any(each is None for each in found):
            return None
        data, offsets = zip(*(each for each in found if each is not None), strict=True)
        side_by_side = bool((np.diff(offsets) == self._nbytes).all())
        if side_by_side and all(each is data[0] for each in data):
            raw = data[0][offsets[0] : offsets[-1] + self._nbytes]
            return np.asarray(raw.view(self._dtype).reshape(-1, *self._plane_shape))
        frames = np.empty((len(planes), *self._plane_shape), self._dtype)
        for frame, raw, offset in zip(frames, data, offsets, strict=True):
            frame.reshape(-1).view(np.uint8)[:] = raw[offset : offset + self._nbytes]
        return frames

    def _find(self, plane: tuple[int, ...]) -> tuple[np.ndarray, int] | None:
        """Return the map of a plane's shard, and where the plane begins in it."""
        whole = (*plane, 0, 0)
        shard = tuple(i // n for i, n in zip(whole, self._shards, strict=True))
        inside = tuple(i % n for i, n in zip(whole, self._shards, strict=True))
        number = int(np.ravel_multi_index(inside[:-2], self._inside[:-2])) if plane else 0
        path = self._folder.joinpath("c", *map(str, shard))
        mapped = self._mapped(shard, path)
        if mapped is None:
            return None
        data, index = mapped
        offset, nbytes = (int(n) for n in index[number])
        if offset == _ABSENT or nbytes != self._nbytes or offset + nbytes > len(data):
            return None
        return data, offset

    def _mapped(self, shard: tuple[int, ...], path: Path) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a shard's bytes and its index, made anew when the file has changed since.

        Shards grow, and get their final form; to touch a map behind the end of its file kills
        the process.
        """
        try:
            state = path.stat()
        except FileNotFoundError:
            return None
        version = (state.st_ino, state.st_size, state.st_mtime_ns)
        known = self._maps.pop(shard, None)
        if known is None or known[0] != version:
            mapped = self._map(path, state.st_size)
            if mapped is None:
                return None
            known = (version, *mapped)
        self._maps[shard] = known
        if len(self._maps) > OPEN:
            self._maps.popitem(last=False)
        return known[1], known[2]

    def _map(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a shard's bytes and its index; None where the index is not whole."""
        import google_crc32c

        length = 16 * prod(self._inside)
        if size < length + _CRC_BYTES:
            return None
        data = np.memmap(path, np.uint8, "r").view(np.ndarray)
        start = len(data) - length - _CRC_BYTES if self._at_end else 0
        index = bytes(data[start : start + length])
        crc = bytes(data[start + length : start + length + _CRC_BYTES])
        if google_crc32c.value(index) != int.from_bytes(crc, "little"):
            return None
        return data, np.frombuffer(index, "<u8").reshape(-1, 2)


def can_map(array: Any) -> bool:
    """Whether an array's chunks are whole planes, raw, in shards with a plain index."""
    if array.metadata.zarr_format != 3 or array.shards is None:
        return False
    codec = array.metadata.codecs[0]
    names = [type(each).__name__ for each in codec.codecs]
    index = [type(each).__name__ for each in codec.index_codecs]
    return (
        len(array.metadata.codecs) == 1
        and names == ["BytesCodec"]
        and index == ["BytesCodec", "Crc32cCodec"]
        and getattr(codec.codecs[0].endian, "value", "little") == "little"
        and getattr(codec.index_codecs[0].endian, "value", "little") == "little"
        and set(array.chunks[:-2]) <= {1}
        and tuple(array.chunks[-2:]) == tuple(array.shape[-2:]) == tuple(array.shards[-2:])
    )
