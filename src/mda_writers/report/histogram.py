"""Histograms of pixel values, exact for 8 and 16 bit, and how many pixels are saturated."""

from __future__ import annotations

from typing import Protocol

import numpy as np

SLICE = 1 << 20
"""Pixels that are counted at once: numpy counts them as 64-bit integers."""

VALUES_A_FRAME = 1 << 16
"""Pixels of a frame that stand for the rest, where there are too many values to count each."""

VALUES_KEPT = 1 << 22


class Histogram(Protocol):
    """Pixel values that were counted."""

    pixels: int
    """Pixels that were counted."""

    frames: int
    """Frames they belong to."""

    @property
    def level(self) -> float | None:
        """The value at which a pixel is saturated; None where there is none."""

    def add(self, frame: np.ndarray) -> None:
        """Count the pixels of a frame."""

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that occur, sorted, and how often they do."""

    @property
    def saturated(self) -> int:
        """Pixels at `level` or above."""

    @property
    def frames_saturated(self) -> int:
        """Frames with such pixels."""


def histogram_for(dtype: str, bit_depth: int | None) -> Histogram:
    """Return a histogram for pixels of `dtype` from a camera with so many significant bits."""
    kind = np.dtype(dtype)
    if kind.kind in "ui" and kind.itemsize <= 2:
        return CountedHistogram(kind, bit_depth)
    level = float(np.iinfo(kind).max) if kind.kind in "ui" else None
    return SampledHistogram(level)


class CountedHistogram:
    """Counts every value there can be."""

    def __init__(self, dtype: np.dtype, bit_depth: int | None) -> None:
        info = np.iinfo(dtype)
        self._lowest = int(info.min)
        self._counts = np.zeros(int(info.max) - self._lowest + 1, np.int64)
        self._brightest: list[int] = []
        self._bit_depth = bit_depth
        self._most = int(info.max)
        self.pixels = 0
        self.frames = 0

    def add(self, frame: np.ndarray) -> None:
        """Count the pixels of a frame."""
        flat = frame.reshape(-1)
        for start in range(0, len(flat), SLICE):
            some = flat[start : start + SLICE].astype(np.int64) - self._lowest
            counted = np.bincount(some)
            self._counts[: len(counted)] += counted
        self.frames += 1
        self.pixels += len(flat)
        self._brightest.append(int(flat.max(initial=self._lowest)))

    @property
    def level(self) -> float:
        """The camera's highest value; the highest of the type if there are pixels above that."""
        if self._bit_depth and self._bit_depth < 64:
            camera = (1 << self._bit_depth) - 1
            if camera < self._most and not self._counts[camera + 1 - self._lowest :].any():
                return camera
        return self._most

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that occur, sorted, and how often they do."""
        present = np.flatnonzero(self._counts)
        return present + self._lowest, self._counts[present]

    @property
    def saturated(self) -> int:
        """Pixels at `level` or above."""
        return int(self._counts[int(self.level) - self._lowest :].sum())

    @property
    def frames_saturated(self) -> int:
        """Frames with such pixels."""
        return sum(brightest >= self.level for brightest in self._brightest)


class SampledHistogram:
    """Keeps some pixels of each frame, evenly spaced; counts saturated ones among all."""

    def __init__(self, level: float | None) -> None:
        self.level = level
        self.pixels = 0
        self.frames = 0
        self.saturated = 0
        self.frames_saturated = 0
        self._kept: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        """Keep some pixels of a frame."""
        flat = frame.reshape(-1)
        self.frames += 1
        self.pixels += len(flat)
        if self.level is not None:
            above = int((flat >= self.level).sum())
            self.saturated += above
            self.frames_saturated += above > 0
        some = flat[:: max(1, len(flat) // VALUES_A_FRAME)].astype(np.float64)
        self._kept.append(some[np.isfinite(some)])
        while sum(map(len, self._kept)) > VALUES_KEPT:
            self._kept = [kept[::2] for kept in self._kept]

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that were kept, sorted, and how often they occur."""
        if not self._kept:
            return np.zeros(0), np.zeros(0, np.int64)
        return np.unique(np.concatenate(self._kept), return_counts=True)


def quantile(values: np.ndarray, counts: np.ndarray, share: float) -> float:
    """Return the value that so large a share of all pixels does not exceed."""
    reached = np.cumsum(counts)
    return float(values[min(np.searchsorted(reached, share * reached[-1]), len(values) - 1)])


def binned(values: np.ndarray, counts: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the left edges of equal bins, and the pixels in each; whole numbers stay whole."""
    low, high = float(values[0]), float(values[-1])
    if np.issubdtype(values.dtype, np.integer):
        width = max(1.0, np.ceil((high - low + 1) / bins))
    else:
        width = (high - low) / bins or 1.0
    where = np.minimum(((values - low) / width).astype(int), bins - 1)
    heights = np.bincount(where, counts)
    return low + width * np.arange(len(heights)), heights
