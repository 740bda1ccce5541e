"""Convert: the same recording in another format, every frame with its index and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.outputs import check_options, is_recording_name, writer_for
from mda_writers.batch.process import Process
from mda_writers.batch.reading import opened
from mda_writers.batch.replay import blocks_to_replay, part_of, stream_of, without_pixels
from mda_writers.batch.starting import Running, run_each
from mda_writers.batch.stream import write_stream
from mda_writers.batch.zarr_joining import JoiningWriter, frames_written
from mda_writers.batch.zarr_parts import PART_NAME, PartWriter, can_be_joined, frames_a_shard
from mda_writers.errors import WriteError, option_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mda_writers.batch.parts import Block
    from mda_writers.batch.summary import Summary
    from mda_writers.model.report import RecordingReport


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
class Convert(Process):
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

    def parts(self, inputs: Sequence[Path], output: Path) -> list[Block]:
        """Return blocks of frames, if what is made is an OME-Zarr that can be made of parts."""
        if not can_be_joined(output, self.options):
            return []
        with opened(inputs[0]) as dataset:
            step = partial(frames_a_shard, options=self.options)
            return blocks_to_replay(dataset, inputs[0], step)

    def run_part(self, inputs: Sequence[Path], part: Block, target: Path) -> None:
        """Write the frames of a block."""
        with opened(inputs[0]) as dataset:
            stream = part_of(dataset, inputs[0], part)
            write_stream(stream, PartWriter, target / PART_NAME, self.options)

    def join(
        self, inputs: Sequence[Path], parts: Sequence[tuple[Block, Path]], result: Path
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
