"""Verify: read every frame back, and name those that are not what was written."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import xxhash

from mda_writers.recording.formats_table import format_of
from mda_writers.recording.stored import StoredRecording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mda_writers.model.layout import ImageLayout

FAULTS_LISTED = 10_000
"""How many frames a result names; `VerifyResult.frames_faulty` counts them all."""

OPEN_FILES = 32
"""Files kept open: frames of many positions may follow one another in any order."""


@dataclass(frozen=True, slots=True)
class FrameFault:
    """A frame that is not what was written: its image's key, its index, its file, and why."""

    key: str
    number: int
    index: dict[str, int]
    file: str
    what: str


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
    result = VerifyResult(
        str(stored.path),
        complete=stored.report is not None and stored.report.complete,
        interrupted=stored.report is None,
    )
    _check_files(stored, result)
    with ExitStack() as stack:
        reader = stack.enter_context(_Reader(stored))
        for key, frame in _shown(stored, progress, stack):
            _check_frame(reader, key, frame, result)
    result.seconds = time.perf_counter() - started
    return result


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


def _check_frame(reader: _Reader, key: str, frame: Mapping[str, Any], result: VerifyResult) -> None:
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


class _Reader:
    """Reads the pixels of frames: at their offset where they have one, else through the format."""

    def __init__(self, stored: StoredRecording) -> None:
        self._folder = stored.path.parent
        self._images = stored.images
        self._format = format_of(stored.header)
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()
        self._buffer = bytearray()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def read(self, key: str, ours: Mapping[str, Any]) -> np.ndarray:
        """Return a frame's pixels; they are valid until the next call."""
        image = self._images[key]
        if "offset_bytes" in ours:
            return self._read_at(str(ours["file"]), int(ours["offset_bytes"]), image)
        pixels = self._format.read_frame(self._folder / image.file, image, ours)
        return np.ascontiguousarray(pixels)

    def _read_at(self, name: str, offset: int, image: ImageLayout) -> np.ndarray:
        if len(self._buffer) != image.frame_bytes:
            self._buffer = bytearray(image.frame_bytes)
        file = self._file(name)
        file.seek(offset)
        count = file.readinto(self._buffer)  # type: ignore[attr-defined]
        if count < len(self._buffer):
            raise EOFError(f"the file ends {len(self._buffer) - count} bytes before it does")
        return np.frombuffer(self._buffer, np.uint8)

    def _file(self, name: str) -> IO[bytes]:
        file = self._files.pop(name, None) or (self._folder / name).open("rb", buffering=0)
        self._files[name] = file
        if len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return file


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
