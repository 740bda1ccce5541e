"""Verify: read every frame back, and name those that are not what was written."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from mda_writers.batch.frame_reader import FrameReader
from mda_writers.batch.parts import blocks_of
from mda_writers.batch.verify_result import VerifyResult
from mda_writers.dataset.sidecar_index import SidecarIndex
from mda_writers.recording.formats_table import format_of
from mda_writers.recording.stored import StoredRecording
from mda_writers.sinks.sidecar import sidecar_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mda_writers.batch.parts import Block


def verify(path: str | Path, *, progress: bool = True) -> VerifyResult:
    """Read every frame of a recording back, and compare it with its checksum.

    Parameters
    ----------
    path : path-like
        The recording, or any of its files; it may have been interrupted.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    CorruptRecordingError
        If the sidecar, the journal or the report cannot be read.
    """
    started = time.perf_counter()
    stored = StoredRecording.find(Path(path))
    result = _nothing_yet(stored)
    _check_files(stored, result)
    with ExitStack() as stack:
        _check_frames(stored, _shown(stored, progress, stack), result)
    result.seconds = time.perf_counter() - started
    return result


def blocks_to_verify(path: Path) -> list[Block]:
    """Return the parts in which a recording can be verified; none of one without its end."""
    stored = StoredRecording.find(path)
    if stored.report is None or not sidecar_path(stored.path).exists():
        return []
    counts = SidecarIndex(sidecar_path(stored.path)).counts()
    return [
        block
        for key, count in counts.items()
        for block in blocks_of(key, count, stored.images[key].frame_bytes)
    ]


def verify_part(path: Path, block: Block | None) -> VerifyResult:
    """Verify a part of a recording; None is the part that asks whether all files are there."""
    started = time.perf_counter()
    stored = StoredRecording.find(path)
    result = _nothing_yet(stored)
    if block is None:
        _check_files(stored, result)
    else:
        index = SidecarIndex(sidecar_path(stored.path))
        frames = index.frames_between(block.key, block.begin, block.end)
        _check_frames(stored, frames, result)
    result.seconds = time.perf_counter() - started
    return result


def _nothing_yet(stored: StoredRecording) -> VerifyResult:
    return VerifyResult(
        str(stored.path),
        complete=stored.report is not None and stored.report.complete,
        interrupted=stored.report is None,
    )


def _check_frames(
    stored: StoredRecording, frames: Iterable[tuple[str, dict[str, Any]]], result: VerifyResult
) -> None:
    with FrameReader(stored) as reader:
        for key, frame in frames:
            _check_frame(reader, key, frame, result)


def _check_files(stored: StoredRecording, result: VerifyResult) -> None:
    fmt = format_of(stored.header)
    for image in stored.images.values():
        if result.interrupted and hasattr(fmt, "files_of"):
            continue  # its frames alone know in which files they are
        for name in image.all_files:
            file = stored.path.parent / name
            if not file.exists():
                result.files_missing.append(name)
            elif damage := fmt.damage(file, image):
                result.files_damaged[name] = damage


def _check_frame(
    reader: FrameReader, key: str, frame: Mapping[str, Any], result: VerifyResult
) -> None:
    ours = frame["mda_writers"]
    if "xxh3_64" not in ours:  # save_frame left it out
        return
    result.frames_checked += 1
    try:
        pixels = reader.read(key, ours)
    except Exception as error:  # whatever a damaged file makes its reader do
        result.note(key, ours, f"could not be read ({type(error).__name__}: {error})")
        return
    result.bytes_read += pixels.nbytes
    if ours.get("lossy"):  # what can be read is all that was promised
        result.frames_lossy += 1
        return
    if xxhash.xxh3_64_hexdigest(pixels.data) != ours["xxh3_64"]:
        result.note(key, ours, "its pixels differ from those that were written")


def _shown(
    stored: StoredRecording, progress: bool, stack: ExitStack
) -> Iterable[tuple[str, dict[str, Any]]]:
    if not progress:
        return stored.frames()
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = stack.enter_context(Progress(*columns, TextColumn("frames"), transient=True))
    total = None if stored.report is None else stored.report.frames_written
    task = bar.add_task(stored.path.name, total=total)
    return _advancing(stored.frames(), bar, task)


def _advancing(
    frames: Iterator[tuple[str, dict[str, Any]]], bar: Any, task: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, frame in enumerate(frames):
        yield frame
        if number % 16 == 0:
            bar.update(task, completed=number + 1)
