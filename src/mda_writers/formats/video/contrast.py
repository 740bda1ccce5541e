"""One fixed line from pixel values to the values that a video holds, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PERCENTILES = (0.1, 99.9)
"""What ``"auto"`` takes as black and white: all but one pixel in a thousand on either side, so
that a few hot pixels do not decide the brightness of a whole video."""

_LOOKED_UP_BITS = 16
"""Integers of up to so many bits are mapped through a table: one look-up a pixel."""


@dataclass(frozen=True)
class Contrast:
    """Maps pixels to ``round((pixel - low) / step)``, limited to what the video holds.

    It is the same for every frame of a video: brightness over time is data.

    Attributes
    ----------
    low, high : float
        The pixel values that become 0 and the highest value of `stored`.
    dtype : str
        Type of the pixels as they were given.
    stored : str
        Type of the values in the video, ``uint8`` or ``uint16``.
    """

    low: float
    high: float
    dtype: str
    stored: str = "uint8"
    _table: np.ndarray | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"contrast_limits=({self.low}, {self.high}): the first must be a smaller number "
                "than the second."
            )
        if not self.is_identity and _has_table(self.dtype):
            # frozen protects what a reader sees; the table only saves time
            object.__setattr__(self, "_table", self._map(_all_values(self.dtype)))

    @property
    def step(self) -> float:
        """Difference of two pixel values that become neighbours in the video."""
        return float((self.high - self.low) / int(np.iinfo(self.stored).max))

    @property
    def is_identity(self) -> bool:
        """Whether the video holds the pixels' own values."""
        return self.dtype == self.stored and self.low == 0 and self.step == 1

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the video holds for `pixels`; not-a-number becomes 0."""
        if self.is_identity:
            return pixels
        if self._table is None:
            return self._map(pixels)
        unsigned = pixels.view(np.dtype(f"u{pixels.dtype.itemsize}"))
        return _looked_up(self._table, unsigned)

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Return the pixels, in their own type: right to within one `step` between the limits."""
        if self.is_identity:
            return values
        pixels = self.low + values.astype(np.float64) * self.step
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return pixels.astype(dtype)
        if dtype.kind == "b":
            return pixels >= 0.5
        limits = np.iinfo(dtype)
        most = float(limits.max)
        if most > limits.max:  # the largest integers of 64 bits have no float of their own
            most = np.nextafter(most, 0)
        return np.clip(np.rint(pixels), limits.min, most).astype(dtype)

    def describe(self) -> dict[str, Any]:
        """Return the mapping as plain values; see `from_description`."""
        return {
            "low": self.low,
            "high": self.high,
            "step": self.step,
            "dtype": self.dtype,
            "stored": self.stored,
        }

    @classmethod
    def from_description(cls, entry: Mapping[str, Any]) -> Contrast:
        """Return the mapping that `describe` described."""
        return cls(entry["low"], entry["high"], entry["dtype"], entry["stored"])

    def _map(self, pixels: np.ndarray) -> np.ndarray:
        most = int(np.iinfo(self.stored).max)
        values = (pixels.astype(np.float64) - self.low) / self.step
        values = np.clip(np.nan_to_num(np.rint(values), nan=0), 0, most)
        return np.asarray(values.astype(self.stored))


def full_contrast(dtype: str, bit_depth: int | None = None, stored: str = "uint8") -> Contrast:
    """Return the mapping of all values that the camera can give; nothing is ever cut off.

    Parameters
    ----------
    dtype : str
        The pixels' integer type.
    bit_depth : int, optional
        Significant bits of an unsigned type, where it is known (12 of 16, say).
    stored : str
        Type of the values in the video.
    """
    if dtype == "bool":
        return Contrast(0, 1, dtype, stored)
    limits = np.iinfo(dtype)
    bits = bit_depth if bit_depth and limits.min == 0 else limits.bits
    high = int(limits.max) if bits >= limits.bits else (1 << bits) - 1
    return Contrast(int(limits.min), high, dtype, stored)


def contrast_of(frames: Sequence[np.ndarray]) -> Contrast:
    """Return the mapping that shows these frames well: between two of their percentiles."""
    values = np.concatenate([frame.ravel() for frame in frames]).astype(np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, PERCENTILES) if len(values) else (0.0, 1.0)
    if low >= high:
        # one grey everywhere: any range that holds it
        high = low + 1
    return Contrast(float(low), float(high), frames[0].dtype.name)


def _looked_up(table: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the table's value for every pixel; OpenCV takes a quarter of numpy's time."""
    if pixels.dtype.itemsize > _opencv_bytes():
        return np.asarray(np.take(table, pixels))
    import cv2

    return np.asarray(cv2.LUT(pixels, table)).reshape(pixels.shape)


@cache
def _opencv_bytes() -> int:
    """Return the bytes of the largest pixels that this OpenCV looks up: 2 from version 5 on."""
    import cv2

    try:
        cv2.LUT(np.zeros((1, 1), np.uint16), np.zeros(1 << 16, np.uint8))
    except cv2.error:
        return 1
    return 2


def _has_table(dtype: str) -> bool:
    kind = np.dtype(dtype)
    return kind.kind in "iub" and 8 * kind.itemsize <= _LOOKED_UP_BITS


def _all_values(dtype: str) -> np.ndarray:
    """Return every value of an integer type, in the order of its bits."""
    kind = np.dtype(dtype)
    bits = np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}")
    return bits.astype(bool) if kind.kind == "b" else bits.view(kind)
