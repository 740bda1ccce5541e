"""How planes lie in the shards of an array, where this package understands all of it.

Whatever else an array may be, zarr-python reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mda_writers.formats.zarr_grid import Grid

if TYPE_CHECKING:
    import os

CODECS = {"BloscCodec": "blosc", "ZstdCodec": "zstd"}
"""zarr-python's class → the codec's name in numcodecs."""

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """The geometry of an array's shards, and how their chunks are stored.

    Attributes
    ----------
    grid : Grid
        Which plane lies in which shard.
    codec : str or None
        The codec's name in numcodecs; None for raw chunks.
    """

    grid: Grid
    codec: str | None

    @property
    def mappable(self) -> bool:
        """Whether a raw chunk is a whole plane, so that a map gives a view of it."""
        return self.codec is None and self.grid.chunk_yx == self.grid.yx


def layout_of(array: Any) -> ShardLayout | None:
    """Return how an array's shards are laid out; None where only zarr-python knows."""
    if array.metadata.zarr_format != 3 or array.shards is None:
        return None
    sharding = array.metadata.codecs[0]
    codecs = [type(each).__name__ for each in sharding.codecs]
    index = [type(each).__name__ for each in sharding.index_codecs]
    known = (
        len(array.metadata.codecs) == 1
        and array.metadata.chunk_key_encoding.name == "default"
        and array.metadata.chunk_key_encoding.separator == "/"
        and sharding.index_location.value == "end"
        and index == ["BytesCodec", "Crc32cCodec"]
        and _little(sharding.index_codecs[0])
        and codecs[0] == "BytesCodec"
        and _little(sharding.codecs[0])
        and len(codecs) <= 2
        and set(codecs[1:]) <= CODECS.keys()
        and set(array.chunks[:-2]) <= {1}
    )
    if not known:
        return None
    yx, chunk_yx = tuple(array.shape[-2:]), tuple(array.chunks[-2:])
    dtype = str(array.dtype.newbyteorder("<"))
    grid = Grid((), (), 1, yx, chunk_yx, tuple(array.shards[:-2]), dtype)
    whole_planes = grid.shard_shape == tuple(array.shards)
    return ShardLayout(grid, CODECS.get(codecs[-1])) if whole_planes else None


def version_of(state: os.stat_result) -> Version:
    """Return what differs when a file has changed: shards grow, and get their final form."""
    return state.st_ino, state.st_size, state.st_mtime_ns


def _little(codec: Any) -> bool:
    return getattr(codec.endian, "value", "little") == "little"
