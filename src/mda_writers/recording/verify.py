"""Compare a recording with its checksums, frame by frame."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import xxhash

from mda_writers.formats.base import format_of
from mda_writers.model.frame import blocks_of
from mda_writers.model.slots import count_frames, slots_of
from mda_writers.recording.files import StoredRecording, journal_path, sidecar_path
from mda_writers.recording.journal import SEALS, FileSeal
from mda_writers.recording.sidecar import SidecarIndex
from mda_writers.storage.block_file import most_open
from mda_writers.storage.files import FileLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.formats.base import Format
    from mda_writers.model.frame import FrameRange
    from mda_writers.model.layout import ImageLayout


LINES_LISTED = 20
"""Altered lines that are named."""

FAULTS_LISTED = 10_000
"""How many frames a result names; `VerifyResult.frames_faulty` counts them all."""

FAULTS_TOLD = 20
"""How many of them it names when it is printed."""

OPEN_FILES = 32
"""Files kept open: frames of many positions may follow one another in any order."""


def verify(path: str | Path, *, progress: bool = True) -> VerifyResult:
    """Read every frame of a recording back, and compare it with its checksum.

    What the files say besides the pixels is compared with what was written, too.

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
    record = _Record(stored)
    with ExitStack() as stack:
        _check_frames(stored, record.noting(_shown(stored, record, progress, stack)), result)
    record.check(result)
    _check_files(stored, record.places(), result)
    result.seconds = time.perf_counter() - started
    return result


def blocks_to_verify(path: Path) -> list[FrameRange]:
    """Return the parts in which a recording can be verified; none of one without its end."""
    stored = StoredRecording.find(path)
    if stored.report is None or not sidecar_path(stored.path).exists():
        return []
    counts = SidecarIndex(sidecar_path(stored.path)).counts()
    return [
        block
        for key, count in counts.items()
        if key in stored.images
        for block in blocks_of(key, count, stored.images[key].frame_bytes)
    ]


def verify_part(path: Path, block: FrameRange | None) -> VerifyResult:
    """Verify a part of a recording; None is the part that is about all but the frames' pixels."""
    started = time.perf_counter()
    stored = StoredRecording.find(path)
    result = _nothing_yet(stored)
    if block is None:
        record = _Record(stored)
        for _ in record.noting(stored.frames(record.altered)):
            pass
        record.check(result)
        _check_files(stored, record.places(), result)
    else:
        index = SidecarIndex(sidecar_path(stored.path))
        frames = index.frames_between(block.key, block.begin, block.end)
        _check_frames(stored, ((k, stored.names.frame_now(f)) for k, f in frames), result)
    result.seconds = time.perf_counter() - started
    return result


class _Record:
    """The lines about frames: whether all are there, each once, as they were written."""

    def __init__(self, stored: StoredRecording) -> None:
        self.altered: list[int] = []
        self._stored = stored
        self._numbers: set[int] = set()
        self._frames: defaultdict[str, dict[tuple[int, ...], None]] = defaultdict(dict)
        self._twice = 0
        self._left_out = 0

    def noting(
        self, frames: Iterable[tuple[str, dict[str, Any]]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return `frames`, each noted."""
        for key, frame in frames:
            ours = frame["mda_writers"]
            self._numbers.add(ours["number"])
            place = tuple(ours["place"])
            if not ours.get("saved", True):
                self._left_out += 1
            elif place in self._frames[key]:
                self._twice += 1
            else:
                self._frames[key][place] = None
            yield key, frame

    def places(self) -> dict[str, list[tuple[int, ...]]]:
        """Return the places of the frames of each image."""
        return {key: list(places) for key, places in self._frames.items()}

    def check(self, result: VerifyResult) -> None:
        """Note what is wrong with the lines as a whole."""
        found = []
        if self.altered:
            some = ", ".join(map(str, self.altered[:LINES_LISTED]))
            found.append(f"{len(self.altered)} lines are altered ({some})")
        if self._twice:
            found.append(f"{self._twice} frames are listed twice")
        if self._stored.report is None:
            missing = max(self._numbers, default=-1) + 1 - len(self._numbers)
        else:
            missing = self._lacking() + max(0, self._stored.report.not_saved - self._left_out)
        if missing:
            found.append(f"{missing} frames are not listed any more")
        if unknown := set(self._frames) - set(self._stored.images):
            found.append(f"it is about images that nothing else knows: {sorted(unknown)}")
        if found:
            result.files_damaged[self._file.name] = "; ".join(found)

    def _lacking(self) -> int:
        """Return how many frames the report lists and no line tells of."""
        count = 0
        for key, image in self._stored.images.items():
            slots = slots_of(image.sizes, self._stored.header["runs"].get(key, ()))
            told = sum(slots[place] >= 0 for place in self._frames.get(key, ()))
            count += count_frames(slots) - int(told)
        return count

    @property
    def _file(self) -> Path:
        path = self._stored.path
        return journal_path(path) if self._stored.report is None else sidecar_path(path)


def _nothing_yet(stored: StoredRecording) -> VerifyResult:
    return VerifyResult(
        str(stored.path),
        complete=stored.report is not None and stored.report.complete,
        interrupted=stored.report is None,
        live=stored.report is None and _is_live(stored),
    )


def _is_live(stored: StoredRecording) -> bool:
    try:
        FileLock(journal_path(stored.path)).release()
    except BlockingIOError:
        return True
    except OSError:  # no locks here, or not ours to write
        return is_alive(stored.header.get("process") or {})
    return False


def _check_frames(
    stored: StoredRecording, frames: Iterable[tuple[str, dict[str, Any]]], result: VerifyResult
) -> None:
    with FrameReader(stored) as reader:
        for key, frame in frames:
            _check_frame(reader, key, frame, result)


def _check_files(
    stored: StoredRecording, places: Mapping[str, list[tuple[int, ...]]], result: VerifyResult
) -> None:
    """Check all but the pixels of frames: directories, descriptions, smaller levels."""
    fmt = format_of(stored.header)
    folder = stored.path.parent
    for image in stored.images.values():
        if stored.report is None and not places.get(image.key):
            continue  # some formats make a file with its first frame
        for name in image.all_files:
            if not (folder / name).exists():
                result.files_missing.append(name)
            elif damage := _damage(fmt, folder / name, image):
                result.files_damaged[name] = damage
        # what is smaller in z is complete at the end only
        is_made = stored.report is not None or stored.header.get("z_factor", 1) == 1
        if is_made and image.file not in (*result.files_missing, *result.files_damaged):
            _check_levels(fmt, folder, image, places.get(image.key, []), result)
    for recorded, entry in stored.header.get(SEALS, {}).items():
        name = stored.names.inside_now(recorded)
        if name in result.files_missing or name in result.files_damaged:
            continue
        try:
            damage = FileSeal.of_entry(entry).damage(folder / name)
        except FileNotFoundError:
            if not any(name.startswith(f"{missing}/") for missing in result.files_missing):
                result.files_missing.append(name)
            continue
        except OSError as error:
            damage = str(error)
        if damage:
            result.files_damaged[name] = damage


def _damage(fmt: Format, file: Path, image: ImageLayout) -> str:
    try:
        return fmt.damage(file, image)
    except Exception as error:  # whatever a damaged file makes its reader do
        return f"it could not be read ({type(error).__name__}: {error})"


def _check_levels(
    fmt: Format,
    folder: Path,
    image: ImageLayout,
    places: Sequence[tuple[int, ...]],
    result: VerifyResult,
) -> None:
    try:
        damage = fmt.damaged_level(folder / image.file, image, places)
    except Exception as error:  # whatever a damaged file makes its reader do
        damage = f"a smaller level could not be read ({type(error).__name__}: {error})"
    if damage:
        result.files_damaged[image.file] = damage


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
    stored: StoredRecording, record: _Record, progress: bool, stack: ExitStack
) -> Iterable[tuple[str, dict[str, Any]]]:
    frames = stored.frames(record.altered)
    if not progress:
        return frames
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = stack.enter_context(Progress(*columns, TextColumn("frames"), transient=True))
    total = None if stored.report is None else stored.report.frames_written
    task = bar.add_task(stored.path.name, total=total)
    return _advancing(frames, bar, task)


def _advancing(
    frames: Iterator[tuple[str, dict[str, Any]]], bar: Any, task: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, frame in enumerate(frames):
        yield frame
        if number % 16 == 0:
            bar.update(task, completed=number + 1)


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
    live : bool
        Whether it is still being written.
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
    live: bool = False

    @property
    def intact(self) -> bool:
        """Whether every frame on record is on disk as it was written."""
        return not (self.frames_faulty or self.files_missing or self.files_damaged)

    @property
    def ok(self) -> bool:
        """Whether the recording is both intact and complete."""
        return self.intact and self.complete

    def note(self, key: str, ours: Mapping[str, Any], what: str) -> None:
        """Note that a frame, with these additions in its metadata, is not what was written."""
        self.frames_faulty += 1
        if len(self.faults) < FAULTS_LISTED:
            file = str(ours.get("file", ""))
            fault = FrameFault(key, ours["number"], dict(ours["index"]), file, what)
            self.faults.append(fault)

    def __str__(self) -> str:
        found = [f"missing {file}" for file in self.files_missing]
        found += [f"damaged {file}: {what}" for file, what in self.files_damaged.items()]
        found += map(str, self.faults[:FAULTS_TOLD])
        if self.frames_faulty > FAULTS_TOLD:
            found.append(f"… and {self.frames_faulty - FAULTS_TOLD} more frames")
        counted = f"{self.frames_checked} frames read, "
        if self.frames_lossy:
            counted += f"{self.frames_lossy} decoded (lossy, no checksum); "
        counted += f"{self.frames_faulty} corrupted; {self._state}"
        return "\n".join([counted, *found])

    @property
    def _state(self) -> str:
        if self.interrupted:
            how = "still being written" if self.live else "interrupted: `recover` completes it"
            return f"intact, {how}" if self.intact else how
        return "the recording is complete" if self.complete else "the recording is not complete"


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


class FrameReader:
    """Reads the pixels of a recording's frames: at their offset, else through the format.

    Parameters
    ----------
    stored : StoredRecording
        The recording.
    """

    def __init__(self, stored: StoredRecording) -> None:
        self._folder = stored.path.parent
        self._images = stored.images
        self._format = format_of(stored.header)
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def read(self, key: str, ours: Mapping[str, Any]) -> np.ndarray:
        """Return a frame's pixels; they are valid until the next call."""
        image = self._images[key]
        # the last row of a set's only plane lies apart
        in_one_piece = image.planes > 1 or not image.one_of_several
        if "offset_bytes" in ours and in_one_piece:
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
        if len(self._files) > most_open(OPEN_FILES):
            self._files.popitem(last=False)[1].close()
        return file
