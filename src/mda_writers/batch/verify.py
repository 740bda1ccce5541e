"""Verify: read every frame back, and name those that are not what was written."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from mda_writers.batch.frame_reader import FrameReader
from mda_writers.batch.parts import blocks_of
from mda_writers.dataset.sidecar_index import SidecarIndex
from mda_writers.recording.formats_table import format_of
from mda_writers.recording.stored import StoredRecording
from mda_writers.sinks.sidecar import sidecar_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.parts import Block

FAULTS_LISTED = 10_000
"""How many frames a result names; `VerifyResult.frames_faulty` counts them all."""

FAULTS_TOLD = 20
"""How many of them it names when it is printed."""


@dataclass(frozen=True, slots=True)
class FrameFault:
    """A frame that is not what was written: its image's key, its index, its file, and why."""

    key: str
    number: int
    index: dict[str, int]
    file: str
    what: str

    def __str__(self) -> str:
        index = ", ".join(f"{axis}={i}" for axis, i in self.index.items())
        return f"frame {self.number} ({index}) in {self.file}: {self.what}"


@dataclass(slots=True)
class VerifyResult:
    """What reading a recording back has shown.

    Attributes
    ----------
    path : str
        The recording's main path.
    complete : bool
        Whether the recording itself says that every planned frame was written.
    interrupted : bool
        Whether it has no end: it was killed, or is still being written.
    frames_checked : int
        Frames on record, each read back.
    bytes_read : int
        Bytes of their pixels.
    frames_lossy : int
        Frames that were found and decoded, and not compared: a lossy video does not keep them
        bit for bit.
    frames_faulty : int
        Frames that are not what was written.
    faults : list of FrameFault
        The first of them.
    files_missing : list of str
        Files that are on record and not on disk.
    files_damaged : dict
        File → what keeps readers from its frames.
    seconds : float
        How long it took.
    """

    path: str
    complete: bool
    interrupted: bool
    frames_checked: int = 0
    bytes_read: int = 0
    frames_lossy: int = 0
    frames_faulty: int = 0
    faults: list[FrameFault] = field(default_factory=list)
    files_missing: list[str] = field(default_factory=list)
    files_damaged: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def intact(self) -> bool:
        """Whether every frame on record is on disk as it was written."""
        return not (self.frames_faulty or self.files_missing or self.files_damaged)

    @property
    def ok(self) -> bool:
        """Whether the recording is both intact and complete."""
        return self.intact and self.complete

    def __str__(self) -> str:
        found = [f"missing {file}" for file in self.files_missing]
        found += [f"damaged {file}: {what}" for file, what in self.files_damaged.items()]
        found += map(str, self.faults[:FAULTS_TOLD])
        if self.frames_faulty > FAULTS_TOLD:
            found.append(f"… and {self.frames_faulty - FAULTS_TOLD} more frames")
        counted = f"{self.frames_checked} frames read, "
        if self.frames_lossy:
            counted += f"{self.frames_lossy} of a lossy video, which can be decoded, no more; "
        counted += f"{self.frames_faulty} not as they were written; {self._state}"
        return "\n".join([counted, *found])

    @property
    def _state(self) -> str:
        if self.interrupted:
            return "the recording was interrupted, or still runs: `recover` completes it"
        return "the recording is complete" if self.complete else "the recording is not complete"


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


def joined(results: Sequence[VerifyResult]) -> VerifyResult:
    """Return what verifying has shown, from all of its parts."""
    whole = results[0]
    for part in results[1:]:
        whole.faults = [*whole.faults, *part.faults][:FAULTS_LISTED]
        whole.files_missing += part.files_missing
        whole.files_damaged |= part.files_damaged
        for name in _COUNTS:
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
    return whole


_COUNTS = ("frames_checked", "bytes_read", "frames_lossy", "frames_faulty", "seconds")


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
        _note_fault(result, key, ours, f"could not be read ({type(error).__name__}: {error})")
        return
    result.bytes_read += pixels.nbytes
    if ours.get("lossy"):  # what can be read is all that was promised
        result.frames_lossy += 1
        return
    if xxhash.xxh3_64_hexdigest(pixels.data) != ours["xxh3_64"]:
        _note_fault(result, key, ours, "its pixels differ from those that were written")


def _note_fault(result: VerifyResult, key: str, ours: Mapping[str, Any], what: str) -> None:
    result.frames_faulty += 1
    if len(result.faults) < FAULTS_LISTED:
        file = str(ours.get("file", ""))
        result.faults.append(FrameFault(key, ours["number"], dict(ours["index"]), file, what))


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
