"""All that a page tells about one recording, in numbers, whatever state the recording is in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.recording_source import RecordingSource
from mda_writers.errors import WriteError
from mda_writers.recording.stored import StoredRecording
from mda_writers.report.frame_columns import FrameColumns, read_columns
from mda_writers.report.pixels import PIXEL_BYTES, PixelLook, look_at
from mda_writers.report.timing import Timing, timing_of
from mda_writers.sinks.journal import Journal
from mda_writers.sinks.sidecar import journal_path, recording_path

if TYPE_CHECKING:
    from mda_writers.batch.verify_result import VerifyResult
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.report import RecordingReport

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
        Samples of the queue and the disk while it ran (see ``sinks/load_log.py``).
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
        What kept this page from telling more.
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
        If nothing can be told about it.
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
    except (WriteError, OSError, ValueError, KeyError, TypeError) as error:
        why = str(error)
    problems.append(f"The metadata of the frames could not be read: {why}")
    return read_columns([])


def _source(stored: StoredRecording, problems: list[str]) -> RecordingSource | None:
    try:
        return RecordingSource(stored.path)
    except (WriteError, OSError, ValueError, ImportError) as error:
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
    except (WriteError, OSError, ValueError) as error:
        problems.append(f"The pixels could not be read: {error}")
        return None


def _verified(
    stored: StoredRecording, wanted: bool | None, share: int, problems: list[str]
) -> VerifyResult | None:
    from mda_writers.batch.verify import verify

    if wanted is None:
        wanted = stored.report is not None and _is_cheap(stored.report, share)
    if not wanted:
        return None
    try:
        return verify(stored.path, progress=False)
    except (WriteError, OSError, ValueError) as error:
        problems.append(f"It could not be verified: {error}")
        return None


def _is_cheap(report: RecordingReport, share: int) -> bool:
    return (
        report.bytes_written * share <= CHEAP_BYTES
        and report.frames_written * share <= CHEAP_FRAMES
    )
