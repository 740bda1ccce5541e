"""When frames came: the time between them, and which of these times were too long.

How long is too long depends on what happened in between: moving to the next position takes longer
than the next frame of a burst. So each interval is compared with the usual one of its kind, which
is told by the axes that changed and the channel that was exposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mda_writers.report.frame_columns import FrameColumns

GAP_FACTOR = 1.75
"""An interval this much longer than is usual is a gap: one lost frame makes it twice as long."""

GAPS_LISTED = 20


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
