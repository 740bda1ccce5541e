"""Convert recordings into another format."""

from __future__ import annotations

from collections import defaultdict
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import numpy as np

from mda_writers.batch.api import Running, run_each
from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.jobs import Operation
from mda_writers.batch.replay import can_be_shared, opened, stream_of, without_pixels, write_stream
from mda_writers.errors import WriteError, option_names
from mda_writers.formats.zarr.arrays import LaidOutArray, ZarrArray
from mda_writers.formats.zarr.format import OmeZarrFormat
from mda_writers.formats.zarr.image import ZarrImage, plane_places
from mda_writers.formats.zarr.pyramid import halve
from mda_writers.formats.zarr.shards import shard_path
from mda_writers.model.names import split_suffix
from mda_writers.model.slots import frames_at, slots_at
from mda_writers.storage.write_pool import WritePool
from mda_writers.writers import check_options, is_recording_name, writer_for
from mda_writers.writers.zarr import OMEZarrWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.executor import Summary, Workers
    from mda_writers.dataset.source import FrameSource
    from mda_writers.formats.zarr.options import ZarrOptions
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.report import RecordingReport
    from mda_writers.storage.write_pool import LevelsPool


_SHARED = {
    "chunks", "compression", "compression_level", "levels", "min_free_bytes", "ngff_version",
    "queue_bytes", "shards", "shuffle",
}  # fmt: skip
"""Options with which shards can be written in any order: others look at several frames at once."""


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

    def can_share(self, inputs: Sequence[Path], output: Path) -> bool:
        """Whether the shards of the result can be written in any order."""
        is_sharded = (
            split_suffix(output.name)[1].lower() in OMEZarrWriter.suffixes
            and set(self.options) <= _SHARED
            and self.options.get("ngff_version", "0.5") == "0.5"
        )
        if not is_sharded:
            return False
        with opened(inputs[0]) as dataset:
            return can_be_shared(dataset, inputs[0])

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Write it, and say what is missing in it."""
        (path,) = inputs
        with opened(path) as dataset:
            on_disk = len(dataset.image_coordinates)
            if workers.several:
                stream = without_pixels(dataset, path)
                writer = partial(SharedWriter, source=dataset.source, workers=workers)
                report = write_stream(stream, writer, result, self.options)
            else:
                stream = stream_of(dataset, path)
                report = write_stream(stream, writer_for(result), result, self.options)
        return checked_report(report, on_disk, path)


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


class SharedWriter(OMEZarrWriter):
    """Writes a recording by its shards: each is one task, of which a cluster's workers do many.

    Pixels come from `source`, so that the frames that it is given have none.
    """

    def __init__(
        self, store: Path, *, source: FrameSource, workers: Workers, **options: Any
    ) -> None:
        super().__init__(store, **options)
        self._source = source
        self._workers = workers

    def format(self, set_id: str) -> OmeZarrFormat:
        """Return how its files begin, and get their final form."""
        return _SharedFormat(self._options, self._source, self._workers)


class _SharedFormat(OmeZarrFormat):
    """Its arrays are whole from the moment they are there."""

    def __init__(self, options: ZarrOptions, source: FrameSource, workers: Workers) -> None:
        super().__init__(options)
        self.image_class = _SharedImage
        self.claims_room = False  # the pixels are there already when the frames are counted
        self.shrinks = True
        self._source = source
        self._workers = workers

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: LevelsPool
    ) -> ZarrImage:
        array = super().new_array(path, image, layout, pool)
        assert isinstance(array, _SharedImage)
        array.fill(self._source, self._workers)
        return array


class _NotLaidOut(LaidOutArray):
    """A laid-out array whose shards are made by those who fill them."""

    def lay_out(self, claim: bool) -> None:
        """Make nothing."""


class _SharedImage(ZarrImage):
    """An image whose shards others write: its frames are only counted."""

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        if index not in self._there:
            raise WriteError(
                f"{self.folder}: the frame at {index} has another place in the source. Convert "
                "the recording without a cluster."
            )
        self._pool.mark()

    def fill(self, source: FrameSource, workers: Workers) -> None:
        """Have the shards of all levels written."""
        self._there: set[tuple[int, ...]] = set()
        images = {image.key: image for image in source.contents.layout.images}
        if self.image.key not in images:
            return  # planned, and no frame came
        image = images[self.image.key]
        places = frames_at(source.slots(image.key))
        self._there = {tuple(place) for place in places.tolist()}
        calls: list[tuple[Any, ...]] = []
        for level in self._levels:
            shards: defaultdict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
            for place in map(tuple, places.tolist()):
                shards[level.grid.shard_of(plane_places(image, place)[0])[0]].append(place)
            calls += [(level, image, *each, source) for each in shards.items()]
        for _ in workers.map(_write_shard, calls):
            pass

    def _kind_of(self, number: int) -> type[ZarrArray]:
        kind = super()._kind_of(number)
        return _NotLaidOut if kind is LaidOutArray else kind


def _write_shard(
    level: ZarrArray,
    image: ImageLayout,
    index: tuple[int, ...],
    places: Sequence[tuple[int, ...]],
    source: FrameSource,
) -> None:
    """Write the shard at `index` of a level: beside its name, which it gets when it is whole.

    So does a worker that was given up and still lives: what it makes is the same.
    """
    beside = copy(level)
    beside.folder = level.folder / f".{uuid4().hex}"
    shard = beside.new_shard(index)
    pool = WritePool()
    try:
        for place, plane in _planes_of(level, image, places, source):
            first = level.grid.shard_of(place)[1] * level.grid.tiles_a_plane
            for number, chunk in enumerate(level.chunks_of(plane), first):
                offset = shard.offset(number)
                if offset < 0:  # compressed chunks follow one another
                    offset = shard.append(chunk.nbytes)
                    shard.note(number, offset, chunk.nbytes)
                pool.write(shard.file, offset, chunk)
        pool.drain()
        shard.publish()
        shard.close()
        target = shard_path(level.folder, index)
        target.parent.mkdir(parents=True, exist_ok=True)
        shard.file.path.replace(target)
    finally:
        pool.close()
        shard.file.close()
        rmtree(beside.folder, ignore_errors=True)


def _planes_of(
    level: ZarrArray,
    image: ImageLayout,
    places: Sequence[tuple[int, ...]],
    source: FrameSource,
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield the planes of some frames in a level, each with its place there."""
    slots = source.slots(image.key)
    for place in places:
        frame = np.asarray(source.read(image, slots_at(slots, np.array([place])))[0], image.dtype)
        for sample, at in enumerate(plane_places(image, place)):
            plane = np.ascontiguousarray(frame if frame.ndim == 2 else frame[..., sample])
            for _ in range(int(level.folder.name)):
                plane = halve(plane)
            yield at, plane
