"""Drift: how far a stage was from where it had been when the same place was visited first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mda_writers.report.frame_columns import FrameColumns


@dataclass(frozen=True, slots=True)
class Drift:
    """Differences in µm of each frame from the first one at the same index but for time.

    Attributes
    ----------
    time_s : np.ndarray
        When the frames came, from the first frame on.
    change_um : np.ndarray
        ``(n, 3)`` for x, y, z; NaN where nobody asked the stage.
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
