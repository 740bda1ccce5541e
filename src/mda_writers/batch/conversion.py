"""Convert recordings into another format."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mda_writers.batch.api import Running, run_each
from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.jobs import Operation
from mda_writers.batch.replay import (
    blocks_to_replay,
    opened,
    part_of,
    stream_of,
    without_pixels,
    write_stream,
)
from mda_writers.errors import WriteError, option_names
from mda_writers.formats.zarr.arrays import LaidOutArray, ZarrArray
from mda_writers.formats.zarr.format import OmeZarrFormat
from mda_writers.formats.zarr.grid import grid_of
from mda_writers.formats.zarr.image import ZarrImage, plane_places
from mda_writers.formats.zarr.shards import MISSING, MOST_CHUNKS, read_index
from mda_writers.model.names import split_suffix
from mda_writers.recording.files import sidecar_path
from mda_writers.recording.sidecar import read_sidecar
from mda_writers.writers import check_options, is_recording_name, writer_for
from mda_writers.writers.zarr import OMEZarrWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.executor import Summary
    from mda_writers.formats.zarr.options import ZarrOptions
    from mda_writers.formats.zarr.shards import Shard
    from mda_writers.model.frame import FrameRange
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.report import RecordingReport
    from mda_writers.storage.write_pool import LevelsPool


PART_NAME = "part.ome.zarr"
"""What the recording of a part is called, in a folder of its own."""

_JOINED = {
    "chunks", "compression", "compression_level", "levels", "min_free_bytes", "ngff_version",
    "queue_bytes", "shards", "shuffle",
}  # fmt: skip
"""Options with which parts make the whole: the others look at several frames at once."""


def convert(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    suffix: str = "",
    overwrite: bool = False,
    workers: int | None = None,
    client: Any = None,
    scheduler: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Summary:
    """Convert recordings between OME-TIFF, OME-Zarr and video.

    The result is a recording as the writer of its format would have made it: the same positions,
    names, indices, metadata and times of every frame. What was done before is skipped: the
    record beside each result, ``<result>.process.json``, says from what it was made.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Recordings, or folders that hold some; also images and videos from elsewhere.
    output : path-like
        The result of one recording (``b.ome.zarr``); or a folder for the results of all, each
        with the name of its recording.
    suffix : str
        With a folder, the format: ``".ome.tiff"``, ``".ome.zarr"``, ``".mp4"``, ….
    overwrite : bool
        Whether anything else of a result's name may be replaced.
    workers : int, optional
        Recordings worked on at once on this machine; by default one a core, at most 4.
    client : distributed.Client, optional
        A Dask cluster that does the work instead. Its workers see the same files.
    scheduler : str, optional
        The address of one (``"tcp://…"``).
    progress : bool
        Whether to show a progress bar and, at the end, the results of several recordings.
    **options
        Those of the format's writer: ``levels=3``, ``compression="zlib"``,
        ``contrast_limits=(100, 4000)``, ``fps=20``, ….

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If inputs or options make no sense; nothing is done then.
    BatchError
        If any recording could not be converted; all others were.
    """
    if not suffix and not is_recording_name(Path(output)):
        raise ValueError(f'{output}: a folder. Give the format, such as suffix=".ome.zarr".')
    running = Running(
        overwrite=overwrite, workers=workers, client=client, scheduler=scheduler, progress=progress
    )
    check = partial(check_options, options=options, also=option_names(convert))
    return run_each(Convert(options), find_inputs(inputs), output, suffix, running, check=check)


@dataclass(frozen=True, slots=True)
class Convert(Operation):
    """Writes a recording again, in the format of the result's name."""

    name: ClassVar[str] = "convert"
    busy_alone: ClassVar[bool] = True

    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The writer's options."""
        return dict(self.options)

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Write it, and say what is missing in it."""
        (path,) = inputs
        with opened(path) as dataset:
            on_disk = len(dataset.image_coordinates)
            stream = stream_of(dataset, path)
            report = write_stream(stream, writer_for(result), result, self.options)
        return checked_report(report, on_disk, path)

    def parts(self, inputs: Sequence[Path], output: Path) -> list[FrameRange]:
        """Return blocks of frames, if what is made is an OME-Zarr that can be made of parts."""
        if not can_be_joined(output, self.options):
            return []
        with opened(inputs[0]) as dataset:
            step = partial(frames_a_shard, options=self.options)
            return blocks_to_replay(dataset, inputs[0], step)

    def run_part(self, inputs: Sequence[Path], part: FrameRange, target: Path) -> None:
        """Write the frames of a block."""
        with opened(inputs[0]) as dataset:
            stream = part_of(dataset, inputs[0], part)
            write_stream(stream, PartWriter, target / PART_NAME, self.options)

    def join(
        self, inputs: Sequence[Path], parts: Sequence[tuple[FrameRange, Path]], result: Path
    ) -> str:
        """Write the whole, with the pixels that the parts have."""
        folders = [folder for _, folder in parts]
        before = list(folders[0].parent.glob("joined.*"))
        writer = partial(JoiningWriter, parts=folders, before=before)
        with opened(inputs[0]) as dataset:
            on_disk = len(dataset.image_coordinates)
            stream = without_pixels(dataset, inputs[0], frames_written(parts))
            report = write_stream(stream, writer, result, self.options)
        return checked_report(report, on_disk, inputs[0])


def checked_report(report: RecordingReport, frames: int, source: Path) -> str:
    """Return what whoever uses a result should know.

    Raises
    ------
    WriteError
        If not every frame was written.
    """
    if report.frames_written + report.not_saved < frames:
        raise WriteError(
            f"{source}: {frames} frames on disk, and only {report.frames_written} were written."
        )
    lacking = report.frames_missing + len(report.skipped)
    if lacking:
        return f"{lacking} of {report.frames_expected} planned frames were never taken"
    return "" if report.complete else "the recording was not complete"


def can_be_joined(path: Path, options: Mapping[str, Any]) -> bool:
    """Whether a recording of that name, written with these options, can be made of parts."""
    suffix = split_suffix(path.name)[1].lower()
    return suffix in OMEZarrWriter.suffixes and set(options) <= _JOINED


def frames_a_shard(image: ImageLayout, options: Mapping[str, Any]) -> int:
    """Return how many frames of an image make a shard of its full resolution."""
    chunks, shards = options.get("chunks") or {}, options.get("shards") or {}
    yx = (image.frame_shape[0], image.frame_shape[1])
    sharded = options.get("ngff_version") != "0.4"
    most = MOST_CHUNKS if options.get("compression") else 0
    grid = grid_of(image, yx, chunks, shards, sharded=sharded, most_chunks=most)
    return max(1, grid.planes_a_shard // grid.samples)


class PartWriter(OMEZarrWriter):
    """Writes some frames of a recording: shards without any of them are not made."""

    def format(self, set_id: str) -> OmeZarrFormat:
        """Return how its files begin, and get their final form."""
        return PartFormat(self._options)


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


class PartImage(ZarrImage):
    """An image of which some frames come, and no more than their shards are made."""

    def _kind_of(self, number: int) -> type[ZarrArray]:
        kind = super()._kind_of(number)
        return _OnDemand if kind is LaidOutArray else kind


class PartFormat(OmeZarrFormat):
    """The files of a part: room for the whole is no concern of theirs."""

    image_class = PartImage

    def __init__(self, options: ZarrOptions) -> None:
        super().__init__(options)
        self.claims_room = False
        self.shrinks = True


# An OME-Zarr made of parts: their shards become those of the whole.
#
# One that a single part has filled is moved, one that two have begun is filled again from both,
# in the order of their frames. So they hold, bit for bit, what one writer would have written.


def frames_written(
    parts: Sequence[tuple[FrameRange, Path]],
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
