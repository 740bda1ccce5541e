"""Planes of our OME-Zarr files, read back; shards are mapped or unpacked here."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr.format import levels_of
from mda_writers.formats.zarr.grid import Grid
from mda_writers.formats.zarr.image import open_level, plane_places, read_frame
from mda_writers.formats.zarr.shards import MISSING, index_in, shard_path
from mda_writers.storage.block_file import most_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.slots import Slots

    Unpack = Callable[[bytes, np.ndarray], np.ndarray]


Version = tuple[int, int, int]

OPEN = 64
"""Shards mapped at once."""

Maps = OrderedDict["Path", tuple[Any, np.ndarray, np.ndarray]]
"""Shard → version, bytes and index."""

KNOWN = 256
"""Indices that are remembered: a few MB."""


class ZarrPlanes:
    """Reads planes of the recordings in a folder by their place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[tuple[str, int], Any] = {}
        self._shards: dict[tuple[str, int], ShardMaps | PackedShards | None] = {}
        self._maps: Maps = OrderedDict()

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return the numbers as they are."""
        return numbers

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their place."""
        shape = tuple(image.sizes.values())
        places = [tuple(map(int, np.unravel_index(s, shape))) if shape else () for s in slots]
        if not places:
            return np.zeros((0, *self.level_shapes(image)[level]), image.dtype)
        array = self._array(image, level, places)
        found = self._out_of_shards(image, level, array, places)
        if found is not None:
            return found
        try:
            frames = _read_by_zarr(array, image, np.asarray(slots), places)
        except Exception as error:  # whatever a damaged shard makes of zarr-python
            raise corrupt(self._folder / image.file / str(level), str(error)) from error
        self._check_blank(image, level, array, frames, places)
        return frames

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every level."""
        folder = self._folder / image.file
        if not folder.is_dir():
            raise corrupt(folder, "it is missing")
        shapes = [self._array(image, int(n), []).shape[-2:] for n in levels_of(folder)]
        return [(*shape, *image.frame_shape[2:]) for shape in shapes]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every level."""
        if "z" not in image.sizes:
            return [1] * len(self.level_shapes(image))
        levels = range(1, len(self.level_shapes(image)))
        return [image.sizes["z"], *(self._array(image, n, []).shape[-3] for n in levels)]

    def close(self) -> None:
        """Forget the arrays; none of them keeps a file open."""
        self._arrays.clear()
        self._shards.clear()
        self._maps.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_arrays": {}, "_shards": {}, "_maps": OrderedDict()}

    def _array(self, image: ImageLayout, level: int, places: list[tuple[int, ...]]) -> Any:
        """Return a level's array; opened anew when it has grown since."""
        folder = self._folder / image.file
        array = self._arrays.get((image.file, level))
        if array is None or not _holds(array, image, places):
            try:
                array = open_level(folder, level)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise corrupt(folder / str(level), str(error)) from error
            if array.dtype != np.dtype(image.dtype) or (
                level == 0 and array.shape[-2:] != tuple(image.frame_shape[:2])
            ):
                raise corrupt(folder / str(level), f"frames of {array.shape[-2:]} {array.dtype}")
            self._arrays[image.file, level] = array
            self._shards.pop((image.file, level), None)
        if not _holds(array, image, places):
            raise corrupt(folder / str(level), f"its shape is {array.shape}")
        return array

    def _out_of_shards(
        self, image: ImageLayout, level: int, array: Any, places: list[tuple[int, ...]]
    ) -> np.ndarray | None:
        """Return frames out of shards; None where only zarr-python can read them."""
        if len(image.frame_shape) != 2:
            return None
        name = (image.file, level)
        if name not in self._shards:
            self._shards[name] = self._open_shards(image.file, level, array)
        shards = self._shards[name]
        if shards is None:
            return None
        return shards.read([plane_places(image, place)[0] for place in places])

    def _open_shards(self, file: str, level: int, array: Any) -> ShardMaps | PackedShards | None:
        layout, folder = layout_of(array), self._folder / file / str(level)
        if layout is None:
            return None
        if layout.mappable:
            return ShardMaps(folder, layout, self._maps)
        return PackedShards(folder, layout)

    def _check_blank(
        self,
        image: ImageLayout,
        level: int,
        array: Any,
        frames: np.ndarray,
        places: list[tuple[int, ...]],
    ) -> None:
        """Look whether frames of nothing but zeros are real: Zarr reads lost chunks as zeros.

        Raises
        ------
        CorruptRecordingError
            If the chunk's file is missing.
        """
        for frame, place in zip(frames, places, strict=True):
            if is_blank(frame):
                for plane in plane_places(image, place):
                    path = _chunk_path(self._folder / image.file / str(level), array, plane)
                    if not path.exists():
                        raise corrupt(path, "it is missing")


def _read_by_zarr(
    array: Any, image: ImageLayout, slots: np.ndarray, places: list[tuple[int, ...]]
) -> np.ndarray:
    if len(image.frame_shape) == 2:
        axes = [axis for axis in ("t", "c", "z") if axis in image.sizes]
        return read_box(array, axes, image.sizes, slots)
    return np.stack([read_frame(array, image, place) for place in places])


def _holds(array: Any, image: ImageLayout, places: list[tuple[int, ...]]) -> bool:
    planes = [plane for place in places for plane in plane_places(image, place)]
    return all(all(i < n for i, n in zip(p, array.shape[:-2], strict=True)) for p in planes)


def _chunk_path(folder: Path, array: Any, plane: tuple[int, ...]) -> Path:
    shape = array.shards or array.chunks
    index = [str(i // n) for i, n in zip((*plane, 0, 0), shape, strict=True)]
    return (
        folder.joinpath("c", *index) if array.metadata.zarr_format == 3 else folder.joinpath(*index)
    )


# How planes lie in the shards of an array, where this package understands all of it.
#
# Whatever else an array may be, zarr-python reads it.


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


# Uncompressed Zarr shards through memory maps: raw chunks whose places their index tells.
#
# zarr-python copies every chunk several times; a map gives a view at the speed of the page cache.
# Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/ .


class ShardMaps:
    """Reads whole planes of one array, whose layout is mappable.

    All arrays of a recording share `maps`, for each shard that is mapped has a descriptor.
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


# Zarr shards whose chunks are compressed, or tiles: read and decoded one by one.
#
# zarr-python reads a shard's index anew for every chunk, and goes through several threads for it.
# Shards are not mapped here: a map would keep Windows from cutting a shard to its final length.


class PackedShards:
    """Reads planes of one array."""

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


def read_box(
    array: Any, axes: Sequence[str], sizes: Mapping[str, int], slots: np.ndarray
) -> np.ndarray:
    """Return frames ``(n, y, x)``.

    Parameters
    ----------
    array : zarr.Array
        Its last two axes are y and x.
    axes : sequence of str
        The array's axes before those.
    sizes : mapping
        The image's axes, in the order in which slots count places.
    slots : np.ndarray
        Which frames.
    """
    if not sizes:
        return np.asarray(array[...]).reshape(len(slots), *array.shape[-2:])
    places = np.stack(np.unravel_index(slots, tuple(sizes.values())), axis=1)
    first, last = places.min(axis=0), places.max(axis=0) + 1
    lengths = tuple(int(n) for n in last - first)
    whole_box = prod(lengths) == len(slots) and bool((np.diff(slots) > 0).all())
    if not whole_box:
        return np.stack(
            [read_box(array, axes, sizes, slots[n : n + 1])[0] for n in range(len(slots))]
        )
    order = list(sizes)
    spans = [slice(int(first[order.index(a)]), int(last[order.index(a)])) for a in axes]
    box = np.asarray(array[tuple(spans)])
    back = [list(axes).index(axis) for axis in order]
    return box.transpose(*back, len(back), len(back) + 1).reshape(len(slots), *box.shape[-2:])


def is_blank(frame: np.ndarray) -> bool:
    """Return whether a frame is nothing but zeros; its first row mostly tells that it is not."""
    return not frame[:1].any() and not frame.any()


def corrupt(path: Path, what: str) -> CorruptRecordingError:
    """Return the error for a file of a Zarr recording that is not as it was written."""
    return CorruptRecordingError(
        f"{path}: not what was recorded ({what}). Copy the folder again if this is a copy; "
        "`mda-writers verify` names every frame that is damaged."
    )
