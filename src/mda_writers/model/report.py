"""What became of a recording."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """What became of a recording; `complete` only if every planned frame is on disk.

    Attributes
    ----------
    path : str
        The recording's main path.
    complete : bool
        Whether every planned frame is on disk (where the plan has no known length: every frame
        that was received), and nothing went wrong.
    frames_expected : int or None
        Frames of the plan; None when its length is unknown.
    frames_received, frames_written : int
        Handed over by the camera; on disk with pixels and metadata.
    not_saved : int
        Received, and left out because ``save_frame`` said so.
    skipped : list of dict
        Indices of events that were begun and gave no frame, while the run went on.
    missing : list of dict
        Indices of planned frames that are not on disk and were not skipped (at most
        `MISSING_LISTED` are listed; `frames_missing` counts them all).
    bytes_written : int
        Bytes of the pixels on disk.
    seconds : float
        From the beginning to everything being on disk.
    mb_per_s : float
        Pixels on disk per second of recording, in 10⁶ bytes.
    interval_ms_median, interval_ms_max : float or None
        Between consecutive frames, as they were handed over.
    camera_gaps : int
        Frames missing in the camera's own counter (``ImageNumber``), over all cameras.
    buffer_overflowed : bool or None
        Whether Micro-Manager's circular buffer overflowed; None when it could not be asked.
    canceled : bool
        Whether the run was cancelled.
    error : str
        What went wrong, or nothing.
    paths : list of str
        Every file of the recording that exists.
    """

    path: str
    complete: bool
    frames_expected: int | None
    frames_received: int
    frames_written: int
    not_saved: int = 0
    frames_missing: int = 0
    skipped: list[dict[str, int]] = field(default_factory=list)
    missing: list[dict[str, int]] = field(default_factory=list)
    bytes_written: int = 0
    seconds: float = 0.0
    mb_per_s: float = 0.0
    interval_ms_median: float | None = None
    interval_ms_max: float | None = None
    camera_gaps: int = 0
    buffer_overflowed: bool | None = None
    canceled: bool = False
    error: str = ""
    paths: list[str] = field(default_factory=list)


MISSING_LISTED = 10_000
"""How many missing frames a report lists; a plan of a million that was cancelled at once should
not end in a report of a hundred megabytes."""
