"""Uncompressed Zarr shards through memory maps: raw chunks whose places their index tells.

zarr-python copies every chunk several times; a map gives a view at the speed of the page cache.
Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/ .
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.shard_layout import version_of
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr_array import shard_path
from mda_writers.formats.zarr_shards import MISSING, index_in
from mda_writers.storage.block_file import most_open

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.dataset.shard_layout import ShardLayout

OPEN = 64
"""Shards mapped at once."""

Maps = OrderedDict["Path", tuple[Any, np.ndarray, np.ndarray]]
"""Shard → version, bytes and index."""


class ShardMaps:
    """Reads whole planes of one array.

    Parameters
    ----------
    folder : Path
        The array's folder.
    layout : ShardLayout
        One that is mappable.
    maps : OrderedDict
        The shards that are mapped, shared by all arrays of a recording: each has a descriptor.
    """

    def __init__(self, folder: Path, layout: ShardLayout, maps: Maps) -> None:
        self._folder = folder
        self._grid = layout.grid
        self._maps = maps

    def read(self, planes: list[tuple[int, ...]]) -> np.ndarray | None:
        """Return planes ``(n, y, x)``: a view where they lie side by side in one shard.

        None if one of them is not in its shard: zarr-python then says why.
        """
        found = [self._find(plane) for plane in planes]
        if any(each is None for each in found):
            return None
        data, offsets = zip(*(each for each in found if each is not None), strict=True)
        nbytes = self._grid.chunk_bytes
        side_by_side = bool((np.diff(offsets) == nbytes).all())
        if side_by_side and all(each is data[0] for each in data):
            raw = data[0][offsets[0] : offsets[-1] + nbytes]
            return np.asarray(raw.view(self._grid.dtype).reshape(-1, *self._grid.yx))
        frames = np.empty((len(planes), *self._grid.yx), self._grid.dtype)
        for frame, raw, offset in zip(frames, data, offsets, strict=True):
            frame.reshape(-1).view(np.uint8)[:] = raw[offset : offset + nbytes]
        return frames

    def _find(self, plane: tuple[int, ...]) -> tuple[np.ndarray, int] | None:
        """Return the map of a plane's shard, and where the plane begins in it."""
        shard, number = self._grid.shard_of(plane)
        mapped = self._mapped(shard)
        if mapped is None:
            return None
        data, index = mapped
        offset, nbytes = (int(n) for n in index[number])
        if offset == MISSING or nbytes != self._grid.chunk_bytes or offset + nbytes > len(data):
            return None
        return data, offset

    def _mapped(self, shard: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a shard's bytes and its index, made anew when the file has changed since.

        To touch a map behind the end of its file kills the process.
        """
        path = shard_path(self._folder, shard)
        try:
            version = version_of(path.stat())
            known = self._maps.pop(path, None)
            if known is None or known[0] != version:
                known = (version, *self._map(path))
        except (FileNotFoundError, CorruptRecordingError):
            return None
        self._maps[path] = known
        while len(self._maps) > most_open(OPEN):
            self._maps.popitem(last=False)
        return known[1], known[2]

    def _map(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes and the index of one and the same file, whatever takes its place."""
        with path.open("rb") as stream:
            index = index_in(stream, path, self._grid.planes_a_shard)
            return np.memmap(stream, np.uint8, "r").view(np.ndarray), index
