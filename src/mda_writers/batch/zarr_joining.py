"""An OME-Zarr made of parts: their shards become those of the whole.

One that a single part has filled is moved, one that two have begun is filled again from both, in
the order of their frames. So they hold, bit for bit, what one writer would have written.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.batch.zarr_parts import PART_NAME, PartFormat, PartImage
from mda_writers.errors import WriteError
from mda_writers.formats.zarr_frames import plane_places
from mda_writers.formats.zarr_shards import MISSING, read_index
from mda_writers.sinks.sidecar import read_sidecar, sidecar_path
from mda_writers.writers.ome_zarr import OMEZarrWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mda_writers.batch.parts import Block
    from mda_writers.formats.levels_pool import LevelsPool
    from mda_writers.formats.ome_zarr import OmeZarrFormat
    from mda_writers.formats.zarr_array import ZarrArray
    from mda_writers.formats.zarr_image import ZarrImage
    from mda_writers.formats.zarr_options import ZarrOptions
    from mda_writers.formats.zarr_shards import Shard
    from mda_writers.model.layout import ImageLayout, Layout


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


class _JoinedImage(PartImage):
    """An image whose chunks are there already: frames are only counted."""

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        for place in plane_places(self.image, index):
            if self._file_of(place) not in self._taken:
                raise WriteError(
                    f"{self.folder}: {self._file_of(place)} is in none of the parts, with the "
                    f"frame at {index}. Start again."
                )
        self._pool.mark()

    def take(self, parts: Sequence[Path], before: Sequence[Path]) -> None:
        """Take the chunks out of the groups of the parts; those that are in none, from before."""
        self._taken: set[Path] = set()
        for level in self._levels:
            found = _found([group / level.folder.name for group in parts])
            rest = _found([group / level.folder.name for group in before])
            for name, files in ({name: rest[name][:1] for name in rest} | found).items():
                if len(files) > 1:
                    index = tuple(map(int, name.parts[1:-2]))
                    _fill_again(level, files, index, self._pool)
                    continue
                (level.folder / name).parent.mkdir(parents=True, exist_ok=True)
                files[0].replace(level.folder / name)
            if level is self._levels[0]:
                self._taken.update(found, rest)

    def _file_of(self, place: tuple[int, ...]) -> Path:
        """Return the shard, or the first of the chunks, of a plane of the full resolution."""
        grid = self._levels[0].grid
        names = ("c", *grid.shard_of(place)[0]) if grid.sharded else place
        return Path(*map(str, names), "0", "0")


class _JoiningFormat(PartFormat):
    image_class = _JoinedImage

    def __init__(self, options: ZarrOptions, parts: Sequence[Path], before: Sequence[Path]) -> None:
        super().__init__(options)
        self._parts = parts
        self._before = before

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: LevelsPool
    ) -> ZarrImage:
        array = super().new_array(path, image, layout, pool)
        assert isinstance(array, _JoinedImage)
        inside = image.file.split("/")[1:]
        array.take(
            [folder.joinpath(PART_NAME, *inside) for folder in self._parts],
            [folder / image.file for folder in self._before],
        )
        return array


def _found(arrays: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the files with chunks by their names within an array, in the order of the arrays."""
    found: defaultdict[Path, list[Path]] = defaultdict(list)
    for array in arrays:
        for file in array.rglob("*"):
            if file.is_file() and not file.name.startswith(".") and file.name != "zarr.json":
                found[file.relative_to(array)].append(file)
    return found


def _fill_again(
    level: ZarrArray, files: Sequence[Path], index: tuple[int, ...], pool: LevelsPool
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
    there = np.flatnonzero(entries[:, 1] != MISSING)
    return [int(n) for n in there[np.argsort(entries[there, 0], kind="stable")]]


def _place_in(shard: Shard, number: int, nbytes: int) -> int:
    """Return where a chunk goes: where its place is, or behind those before it."""
    offset = shard.offset(number)
    if offset < 0:
        offset = shard.append(nbytes)
        shard.note(number, offset, nbytes)
    return offset
