"""An OME-Zarr written in parts: every part is a recording of its frames only, the rest laid out.

The shards of the parts become those of the whole: one that a single part has filled is moved, one
that two have begun is filled again from both. So they hold what one writer would have written.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.ome_zarr import OmeZarrFormat
from mda_writers.formats.zarr_array import LaidOutArray, ZarrArray
from mda_writers.formats.zarr_grid import grid_of
from mda_writers.formats.zarr_image import ZarrImage
from mda_writers.formats.zarr_shards import read_index
from mda_writers.model.names import split_suffix
from mda_writers.sinks.sidecar import read_sidecar, sidecar_path
from mda_writers.writers.ome_zarr import OMEZarrWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.batch.parts import Block
    from mda_writers.formats.zarr_options import ZarrOptions
    from mda_writers.formats.zarr_shards import Shard
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.storage.ordered_pool import OrderedPool

PART_NAME = "part.ome.zarr"
"""What the recording of a part is called, in a folder of its own."""


_JOINED = {
    "chunks", "compression", "compression_level", "levels", "min_free_bytes", "ngff_version",
    "queue_bytes", "shards", "shuffle",
}  # fmt: skip
"""Options with which parts make the whole: the others look at several frames at once."""


def can_be_joined(path: Path, options: Mapping[str, Any]) -> bool:
    """Whether a recording of that name, written with these options, can be made of parts."""
    suffix = split_suffix(path.name)[1].lower()
    return suffix in OMEZarrWriter.suffixes and set(options) <= _JOINED


def frames_a_shard(image: ImageLayout, options: Mapping[str, Any]) -> int:
    """Return how many frames of an image make a shard of its full resolution."""
    chunks, shards = options.get("chunks") or {}, options.get("shards") or {}
    yx = (image.frame_shape[0], image.frame_shape[1])
    sharded = options.get("ngff_version") != "0.4"
    grid = grid_of(image, yx, chunks, shards, sharded=sharded)
    return max(1, grid.planes_a_shard // grid.samples)


def frames_written(
    parts: Sequence[tuple[Block, Path]],
) -> dict[str, Iterator[Mapping[str, Any]]]:
    """Return for each image what is known of its frames in the parts, in the order they came."""
    folders: defaultdict[str, list[Path]] = defaultdict(list)
    for part, folder in parts:
        folders[part.key].append(folder)
    return {key: _frames_in(some) for key, some in folders.items()}


def _frames_in(folders: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    for folder in folders:
        for _, frame in read_sidecar(sidecar_path(folder / PART_NAME)):
            yield frame["mda_writers"]


class PartWriter(OMEZarrWriter):
    """Writes some frames of a recording: shards without any of them are not made."""

    def format(self, set_id: str) -> OmeZarrFormat:
        """Return how its files begin, and get their final form."""
        return _PartFormat(self._options)


class JoiningWriter(OMEZarrWriter):
    """Writes a recording whose pixels parts of it have.

    Parameters
    ----------
    store : path-like
        Where the recording goes.
    parts : sequence of Path
        The folders with the parts' recordings, in the order of their frames.
    before : sequence of Path
        Folders with what others, who were killed, had joined already.
    **options
        Those of `OMEZarrWriter`.
    """

    def __init__(
        self, store: Path, *, parts: Sequence[Path], before: Sequence[Path], **options: Any
    ) -> None:
        super().__init__(store, **options)
        self._parts = parts
        self._before = before

    def format(self, set_id: str) -> OmeZarrFormat:
        """Return how its files begin, and get their final form."""
        return _JoiningFormat(self._options, self._parts, self._before)


class _OnDemand(LaidOutArray):
    """A laid-out array whose shards are made when the first of their frames comes."""

    _claim = False

    def lay_out(self, claim: bool) -> None:
        """Make nothing yet."""
        self._claim = claim

    def put(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        index, _ = self.grid.shard_of(place)
        if index not in self._files:
            self._files[index] = self.new_shard(index, claim=self._claim)
        super().put(place, chunks)


class _PartImage(ZarrImage):
    def _kind_of(self, number: int) -> type[ZarrArray]:
        kind = super()._kind_of(number)
        return _OnDemand if kind is LaidOutArray else kind


class _PartFormat(OmeZarrFormat):
    image_class = _PartImage

    def __init__(self, options: ZarrOptions) -> None:
        super().__init__(options)
        self.claims_room = False  # others fill the rest of it
        self.shrinks = True


class _JoinedImage(_PartImage):
    """An image whose chunks are there already: frames are only counted."""

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        self._pool.mark()

    def take(self, parts: Sequence[Path], before: Sequence[Path]) -> None:
        """Take the chunks out of the groups of the parts; those that are in none, from before."""
        for level in self._levels:
            name = level.folder.name
            found: defaultdict[Path, list[Path]] = defaultdict(list)
            for folder in parts:
                for file in _chunk_files(folder / name):
                    found[file.relative_to(folder / name)].append(file)
            for folder in before:
                for file in _chunk_files(folder / name):
                    if file.relative_to(folder / name) not in found:
                        found[file.relative_to(folder / name)].append(file)
            for relative, files in found.items():
                if len(files) > 1:
                    index = tuple(map(int, relative.parts[1:-2]))
                    _fill_again(level, files, index, self._pool)
                    continue
                (level.folder / relative).parent.mkdir(parents=True, exist_ok=True)
                files[0].replace(level.folder / relative)


class _JoiningFormat(_PartFormat):
    image_class = _JoinedImage

    def __init__(self, options: ZarrOptions, parts: Sequence[Path], before: Sequence[Path]) -> None:
        super().__init__(options)
        self._parts = parts
        self._before = before

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: OrderedPool
    ) -> ZarrImage:
        array = super().new_array(path, image, layout, pool)
        assert isinstance(array, _JoinedImage)
        inside = image.file.split("/")[1:]
        array.take(
            [folder.joinpath(PART_NAME, *inside) for folder in self._parts],
            [folder / image.file for folder in self._before],
        )
        return array


def _chunk_files(level: Path) -> list[Path]:
    """Return the shards or chunks of an array, in no order."""
    return [
        file
        for file in level.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file.name != "zarr.json"
    ]


def _fill_again(
    level: ZarrArray, files: Sequence[Path], index: tuple[int, ...], pool: OrderedPool
) -> None:
    """Fill a shard with the chunks of several, which are left as they are."""
    shard = level.new_shard(index)
    chunks = level.grid.planes_a_shard * level.grid.tiles_a_plane
    try:
        for file in files:
            entries = read_index(file, chunks)
            with file.open("rb") as stream:
                for number in _as_they_lie(entries):
                    offset, nbytes = map(int, entries[number])
                    stream.seek(offset)
                    chunk = np.frombuffer(stream.read(nbytes), np.uint8)
                    pool.write(shard.file, _place_in(shard, number, chunk.nbytes), chunk)
        pool.drain()
        shard.publish()
    finally:
        shard.close()


def _as_they_lie(entries: np.ndarray) -> list[int]:
    """Return the numbers of the chunks that are there, in the order in which they were written."""
    there = np.flatnonzero(entries[:, 1] != np.iinfo(np.uint64).max)
    return [int(n) for n in there[np.argsort(entries[there, 0], kind="stable")]]


def _place_in(shard: Shard, number: int, nbytes: int) -> int:
    """Return where a chunk goes: where its place is, or behind those before it."""
    offset = shard.offset(number)
    if offset < 0:
        offset = shard.append(nbytes)
        shard.note(number, offset, nbytes)
    return offset
