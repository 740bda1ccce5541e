"""The facts about a recording: frames, timing, drift."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.recording_source import RecordingSource
from mda_writers.errors import RecordingError
from mda_writers.recording.files import StoredRecording, journal_path, recording_path
from mda_writers.recording.journal import Journal
from mda_writers.report.pixels import PIXEL_BYTES, PixelLook, look_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.report import RecordingReport
    from mda_writers.recording.verify import VerifyResult


CHEAP_BYTES = 256 << 20
"""Recordings up to this size are verified without being asked: it takes about a second."""

CHEAP_FRAMES = 20_000
"""The same for the number of their frames: each is looked for in the file's directory."""

ROWS = 24
"""Channels of images that have thumbnails: four pictures each, some four megabytes in all."""

LINES_LISTED = 20
"""Altered lines that are named."""

COMPLETE, INCOMPLETE, INTERRUPTED, RUNNING = "complete", "incomplete", "interrupted", "running"
DAMAGED = "damaged"

MOST_FRAMES = 2_000_000
"""Frames whose metadata is read; the report of a longer recording says so."""

MOST_ENTRIES = 300
"""Frames whose complete metadata is on the page, evenly spaced over the recording."""

GAP_FACTOR = 1.75
"""An interval this much longer than is usual is a gap: one lost frame makes it twice as long."""

GAPS_LISTED = 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a recording.

    Attributes
    ----------
    path : Path
        Its main path.
    state : str
        One of `COMPLETE`, `INCOMPLETE`, `INTERRUPTED`, `RUNNING`, `DAMAGED`: a recording is not
        called complete when some of it cannot be read, or is not what was written.
    stored : StoredRecording
        What the files beside it say.
    load : list of dict
        Samples of the queue and the disk while it ran (see ``recording/journal_writer.py``).
    frames : FrameColumns
        Its frames.
    timing : Timing
        Their intervals.
    written : dict
        Key → frames of that image that are on disk.
    pixels : PixelLook or None
        What the pixels look like; None if they cannot be read.
    verified : VerifyResult or None
        What reading everything back has shown, if that was done.
    problems : list of str
        What could not be read, and why.
    share : int
        Recordings that the page is about: each has its share of what a page may take.
    """

    path: Path
    state: str
    stored: StoredRecording
    load: list[dict[str, Any]]
    frames: FrameColumns
    timing: Timing
    written: dict[str, int]
    pixels: PixelLook | None = None
    verified: VerifyResult | None = None
    problems: list[str] = field(default_factory=list)
    share: int = 1

    @property
    def images(self) -> list[ImageLayout]:
        """The images, in order."""
        return list(self.stored.images.values())

    @property
    def is_readable(self) -> bool:
        """Whether all that was looked at could be read, and is what was written."""
        return not self.problems and (self.verified is None or self.verified.intact)

    @property
    def frames_expected(self) -> int | None:
        """Frames of the plan; None when its length is unknown."""
        expected = self.stored.header.get("frames_expected")
        return expected if isinstance(expected, int) else None

    @property
    def frames_written(self) -> int:
        """Frames that are on disk."""
        report = self.stored.report
        return sum(self.written.values()) if report is None else report.frames_written

    @property
    def bytes_written(self) -> int:
        """Bytes of their pixels."""
        report = self.stored.report
        if report is not None:
            return report.bytes_written
        return sum(i.frame_bytes * self.written.get(i.key, 0) for i in self.images)

    @property
    def seconds(self) -> float:
        """How long it took, to the last frame that is known."""
        report = self.stored.report
        return self.timing.duration_s if report is None else report.seconds


def gather(path: Path, *, verify: bool | None = None, share: int = 1) -> Facts:
    """Return what is known about the recording that `path` is a file of.

    Parameters
    ----------
    path : Path
        The recording, or any of its files.
    verify : bool or None
        Whether to read everything back; by default only what is small (`CHEAP_BYTES`).
    share : int
        Recordings that share a page.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    CorruptRecordingError
        If nothing can be said about it.
    """
    try:
        return _gather(path, verify, share)
    except FileNotFoundError:
        # the journal goes at the end of a recording: it may have ended between two looks
        return _gather(path, verify, share)


def _gather(path: Path, verify: bool | None, share: int) -> Facts:
    stored = StoredRecording.find(path)
    problems: list[str] = []
    frames = _frames(stored, problems)
    source = _source(stored, problems)
    facts = Facts(
        path=stored.path,
        state=_state(stored, source),
        stored=stored,
        load=_load(stored),
        frames=frames,
        timing=timing_of(frames),
        written=_written(frames),
        pixels=_pixels(source, share, problems),
        verified=_verified(stored, verify, share, problems),
        problems=problems,
        share=share,
    )
    if source is not None:
        source.close()
    looks = facts.pixels.looks if facts.pixels is not None else []
    problems += [f"Pixels could not be read: {each.problem}" for each in looks if each.problem]
    return facts if facts.is_readable or facts.state == RUNNING else replace(facts, state=DAMAGED)


def _frames(stored: StoredRecording, problems: list[str]) -> FrameColumns:
    altered: list[int] = []
    try:
        columns = read_columns(stored.frames(altered, trusting=True))
        if altered:
            lines = ", ".join(map(str, altered[:LINES_LISTED]))
            problems.append(
                f"{len(altered)} lines about frames are altered since they were written ({lines}): "
                "what this page says of times and metadata may be wrong."
            )
        return columns
    except FileNotFoundError:
        if stored.report is None:
            raise  # it has just ended
        why = "there is no sidecar"
    except (RecordingError, OSError, ValueError, KeyError, TypeError) as error:
        why = str(error)
    problems.append(f"The metadata of the frames could not be read: {why}")
    return read_columns([])


def _source(stored: StoredRecording, problems: list[str]) -> RecordingSource | None:
    try:
        return RecordingSource(stored.path)
    except (RecordingError, OSError, ValueError, ImportError) as error:
        problems.append(f"The pixels could not be read: {error}")
        return None


def _state(stored: StoredRecording, source: RecordingSource | None) -> str:
    if stored.report is not None:
        return COMPLETE if stored.report.complete else INCOMPLETE
    return RUNNING if source is not None and source.is_live() else INTERRUPTED


def _load(stored: StoredRecording) -> list[dict[str, Any]]:
    if recording_path(stored.path).exists():
        return list(stored.header.get("load") or [])
    return Journal.read(journal_path(stored.path)).load


def _written(frames: FrameColumns) -> dict[str, int]:
    counts = np.bincount(frames.image[frames.saved], minlength=len(frames.keys))
    return {key: int(n) for key, n in zip(frames.keys, counts, strict=True)}


def _pixels(source: RecordingSource | None, share: int, problems: list[str]) -> PixelLook | None:
    if source is None:
        return None
    try:
        return look_at(source, ROWS // share, PIXEL_BYTES // share)
    except (RecordingError, OSError, ValueError) as error:
        problems.append(f"The pixels could not be read: {error}")
        return None


def _verified(
    stored: StoredRecording, wanted: bool | None, share: int, problems: list[str]
) -> VerifyResult | None:
    from mda_writers.recording.verify import verify

    if wanted is None:
        wanted = stored.report is not None and _is_cheap(stored.report, share)
    if not wanted:
        return None
    try:
        return verify(stored.path, progress=False)
    except (RecordingError, OSError, ValueError) as error:
        problems.append(f"It could not be verified: {error}")
        return None


def _is_cheap(report: RecordingReport, share: int) -> bool:
    return (
        report.bytes_written * share <= CHEAP_BYTES
        and report.frames_written * share <= CHEAP_FRAMES
    )


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """What is known of each frame, in order of arrival.

    Attributes
    ----------
    number : np.ndarray
        The frame's number in the recording.
    monotonic_s : np.ndarray
        When it was handed over.
    saved : np.ndarray
        Whether its pixels are kept.
    position_um : np.ndarray
        ``(n, 3)``: where the stages were, NaN where they were not asked.
    index : dict
        Axis → index; −1 where the frame has none.
    image : np.ndarray
        Number of its image, in the order of `keys`.
    keys : list of str
        The images' keys.
    entries : list of dict
        The complete metadata of some frames.
    cut : bool
        Whether there are more frames than were read.
    """

    number: np.ndarray
    monotonic_s: np.ndarray
    saved: np.ndarray
    position_um: np.ndarray
    index: dict[str, np.ndarray]
    image: np.ndarray
    keys: list[str]
    entries: list[dict[str, Any]]
    cut: bool = False

    def __len__(self) -> int:
        return len(self.number)


def read_columns(frames: Iterable[tuple[str, Mapping[str, Any]]]) -> FrameColumns:
    """Return the columns of `frames` (key and metadata of each), sorted by their numbers."""
    growing = _Growing()
    frames = iter(frames)
    for key, frame in islice(frames, MOST_FRAMES):
        growing.take(key, frame)
    return growing.columns(cut=next(frames, None) is not None)


@dataclass(slots=True)
class _Growing:
    """The columns while they are read."""

    number: array[int] = field(default_factory=lambda: array("q"))
    time: array[float] = field(default_factory=lambda: array("d"))
    saved: array[int] = field(default_factory=lambda: array("b"))
    image: array[int] = field(default_factory=lambda: array("l"))
    position: array[float] = field(default_factory=lambda: array("f"))
    index: dict[str, array[int]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    every: int = 1

    def take(self, key: str, frame: Mapping[str, Any]) -> None:
        """Append one frame."""
        ours = frame["mda_writers"]
        self._keep_entry(frame)
        self._take_index(ours["index"])
        self.number.append(ours["number"])
        self.time.append(ours["monotonic_s"])
        self.saved.append(ours.get("saved", True))
        self.image.append(self.keys.setdefault(key, len(self.keys)))
        stages = frame.get("position")
        stages = stages if isinstance(stages, dict) else {}
        self.position.extend(_float(stages.get(axis)) for axis in "xyz")

    def columns(self, cut: bool) -> FrameColumns:
        """Return what was taken, in order of arrival."""
        number = np.array(self.number, np.int64)
        order = np.argsort(number, kind="stable")
        return FrameColumns(
            number=number[order],
            monotonic_s=np.array(self.time, np.float64)[order],
            saved=np.array(self.saved, bool)[order],
            position_um=np.array(self.position, np.float32).reshape(-1, 3)[order],
            index={axis: np.array(c, np.int32)[order] for axis, c in self.index.items()},
            image=np.array(self.image, np.int32)[order],
            keys=list(self.keys),
            entries=sorted(self.entries, key=lambda e: int(e["mda_writers"]["number"])),
            cut=cut,
        )

    def _take_index(self, index: Mapping[str, int]) -> None:
        taken = len(self.number)
        for axis in index:
            if axis not in self.index:
                self.index[axis] = array("i", [-1]) * taken
        for axis, column in self.index.items():
            column.append(index.get(axis, -1))

    def _keep_entry(self, frame: Mapping[str, Any]) -> None:
        """Keep one frame in `every`, which doubles whenever there are too many."""
        if len(self.number) % self.every == 0:
            self.entries.append(dict(frame))
        if len(self.entries) > MOST_ENTRIES:
            del self.entries[1::2]
            self.every *= 2


def _float(value: Any) -> float:
    return value if isinstance(value, int | float) else float("nan")


# When frames came: the time between them, and which of these times were too long.
#
# How long is too long depends on what happened in between: moving to the next position takes
# longer than the next frame of a burst. So each interval is compared with the usual one of its
# kind, which is seen from the axes that changed and the channel that was exposed.


@dataclass(frozen=True, slots=True)
class Timing:
    """The intervals of a recording; each array has one element for every frame but the first.

    Attributes
    ----------
    time_s : np.ndarray
        When the frame came that ends the interval, from the first frame on.
    interval_ms : np.ndarray
        Time since the frame before.
    usual_ms : np.ndarray
        The median of all intervals of the same kind.
    """

    time_s: np.ndarray
    interval_ms: np.ndarray
    usual_ms: np.ndarray

    @property
    def gaps(self) -> np.ndarray:
        """Positions of the intervals that were too long."""
        return np.flatnonzero(self.interval_ms > GAP_FACTOR * self.usual_ms)

    @property
    def longest_gaps(self) -> np.ndarray:
        """Positions of the worst gaps, by the time they took too long, in order of time."""
        gaps = self.gaps
        excess = self.interval_ms[gaps] - self.usual_ms[gaps]
        return np.sort(gaps[np.argsort(-excess, kind="stable")][:GAPS_LISTED])

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return float(self.time_s[-1]) if len(self.time_s) else 0.0


def timing_of(frames: FrameColumns) -> Timing:
    """Return the intervals between all frames that were handed over."""
    time_s = frames.monotonic_s - (frames.monotonic_s[0] if len(frames) else 0.0)
    interval_ms = np.maximum(np.diff(time_s), 0.0) * 1e3
    kinds = _kinds(frames)
    usual = np.zeros(len(kinds))
    for kind in np.unique(kinds):
        usual[kinds == kind] = np.median(interval_ms[kinds == kind])
    return Timing(time_s[1:], interval_ms, usual)


def _kinds(frames: FrameColumns) -> np.ndarray:
    """Return a number for what happened before each frame but the first."""
    changed = [(np.diff(column) != 0).astype(np.int64) for column in frames.index.values()]
    kinds = np.zeros(max(0, len(frames) - 1), np.int64)
    for bit, flags in enumerate(changed):
        kinds |= flags << bit
    channel = frames.index.get("c")
    if channel is not None:
        kinds += (channel[1:].astype(np.int64) + 1) << len(changed)
    return kinds


@dataclass(frozen=True, slots=True)
class Drift:
    """Differences in µm of each frame from the first one at the same index but for time.

    Attributes
    ----------
    time_s : np.ndarray
        When the frames came, from the first frame on.
    change_um : np.ndarray
        ``(n, 3)`` for x, y, z; NaN where the stage was not asked.
    asked : int
        Frames that a stage was asked for.
    """

    time_s: np.ndarray
    change_um: np.ndarray
    asked: int

    @property
    def axes(self) -> list[int]:
        """The stage axes of which something is known."""
        return [n for n in range(3) if np.isfinite(self.change_um[:, n]).any()]

    def largest_um(self, axis: int) -> float:
        """Return the largest change along an axis, without its sign."""
        return float(np.nanmax(np.abs(self.change_um[:, axis])))


def drift_of(frames: FrameColumns) -> Drift:
    """Return how the positions of stages changed."""
    known = np.isfinite(frames.position_um).any(axis=1)
    time_s = frames.monotonic_s - (frames.monotonic_s[0] if len(frames) else 0.0)
    first = _first_visits(frames, known)
    change = frames.position_um - frames.position_um[first]
    return Drift(time_s, change, int(known.sum()))


def _first_visits(frames: FrameColumns, known: np.ndarray) -> np.ndarray:
    """Return for each frame the first frame at the same place of which a position is known."""
    place = np.zeros(len(frames), np.int64)
    for axis, column in frames.index.items():
        if axis not in ("t", "repeat"):
            both = place * (int(column.max(initial=0)) + 2) + column + 1
            place = np.unique(both, return_inverse=True)[1].astype(np.int64)
    first = np.arange(len(frames))
    where = np.flatnonzero(known)
    if len(where):
        _, visits, group = np.unique(place[where], return_index=True, return_inverse=True)
        first[where] = where[visits][group]
    return first
