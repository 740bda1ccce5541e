"""How planes lie in the shards of an array, where this package understands all of it.

Whatever else an array may be, zarr-python reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mda_writers.formats.zarr_grid import Grid

if TYPE_CHECKING:
    import os

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
    """Return how an array's shards are laid out; None where only zarr-python knows.

    Read from the array's metadata as they are written, which Zarr's specification fixes:
    zarr-python's codec objects differ from version to version.
    """
    if array.metadata.zarr_format != 3 or array.shards is None:
        return None
    about = array.metadata.to_dict()
    sharding = about["codecs"][0]["configuration"]
    codecs = sharding["codecs"]
    known = (
        len(about["codecs"]) == 1
        and about["chunk_key_encoding"]["name"] == "default"
        and _setting(about["chunk_key_encoding"], "separator", "/") == "/"
        and sharding.get("index_location", "end") == "end"
        and [each["name"] for each in sharding["index_codecs"]] == ["bytes", "crc32c"]
        and _setting(sharding["index_codecs"][0], "endian", "little") == "little"
        and codecs[0]["name"] == "bytes"
        and _setting(codecs[0], "endian", "little") == "little"
        and [each["name"] for each in codecs[1:]] in ([], ["blosc"], ["zstd"])
        and set(array.chunks[:-2]) <= {1}
    )
    if not known:
        return None
    yx, chunk_yx = tuple(array.shape[-2:]), tuple(array.chunks[-2:])
    dtype = str(array.dtype.newbyteorder("<"))
    grid = Grid((), (), 1, yx, chunk_yx, tuple(array.shards[:-2]), dtype)
    whole_planes = grid.shard_shape == tuple(array.shards)
    codec = codecs[1]["name"] if len(codecs) == 2 else None
    return ShardLayout(grid, codec) if whole_planes else None


def version_of(state: os.stat_result) -> Version:
    """Return what differs when a file has changed: shards grow, and get their final form."""
    return state.st_ino, state.st_size, state.st_mtime_ns


def _setting(named: dict[str, Any], key: str, default: str) -> str:
    """Return a setting of a codec or key encoding; bytes of one each have no endian."""
    value: str = (named.get("configuration") or {}).get(key, default)
    return value
