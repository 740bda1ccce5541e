"""One axis of a plot: from values to a share of its length, and to ticks as people set them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, in `unit`; by powers of ten if `log`, where both are positive."""

    low: float
    high: float
    unit: str = ""
    log: bool = False
    ticks_wanted: int = 4

    @classmethod
    def around(cls, values: np.ndarray, unit: str = "", *, zero: bool = False) -> Axis:
        """Return an axis that all finite values fit on, from 0 if `zero`."""
        finite = values[np.isfinite(values)]
        low = float(finite.min(initial=np.inf)) if len(finite) else 0.0
        high = float(finite.max(initial=-np.inf)) if len(finite) else 1.0
        low = min(low, 0.0) if zero else low
        if low == high:
            low, high = (0.0, high or 1.0) if zero else (low - 0.5, high + 0.5)
        margin = 0.06 * (high - low)
        return cls(low if zero else low - margin, high + margin, unit)

    def share(self, values: np.ndarray) -> np.ndarray:
        """Return where values lie, 0 at `low` and 1 at `high`; what is outside is put on an end."""
        if self.log:
            values = np.log10(np.maximum(values, self.low))
            low, high = log10(self.low), log10(self.high)
        else:
            low, high = self.low, self.high
        return np.clip((values - low) / (high - low), 0.0, 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the share and the text of each tick."""
        values = self._decades() if self.log else self._round_values()
        shares = self.share(np.array(values))
        steps = values if self.log else [values[-1] - values[-2]] * len(values)
        return [
            (float(share), _short(value, step))
            for share, value, step in zip(shares, values, steps, strict=True)
        ]

    def _round_values(self) -> list[float]:
        for wanted in (self.ticks_wanted, 2 * self.ticks_wanted):  # the second time there are two
            step = _round_step((self.high - self.low) / wanted)
            first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
            if last > first:
                break
        return [round(n * step, 12) for n in range(first, last + 1)]

    def _decades(self) -> list[float]:
        first, last = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
        every = max(1, ceil((last - first) / self.ticks_wanted))
        values = [10.0**n for n in range(first, last + 1, every)]
        return values if len(values) > 1 else [self.low, self.high]


def time_axis(seconds: float) -> tuple[Axis, float]:
    """Return the axis of a time from 0 to `seconds`, and how many seconds its unit has."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * size:
            return Axis(0.0, seconds / size, unit), size
    return Axis(0.0, max(seconds, 1e-3) * 1e3, "ms"), 1e-3


def _round_step(wanted: float) -> float:
    """Return the 1, 2 or 5 of some power of ten that comes next."""
    power = 10.0 ** floor(log10(wanted))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= wanted * (1 - 1e-9))


def _short(value: float, step: float) -> str:
    """Return a number in few characters (15 000 → ``15k``) that differs from its neighbours'."""
    digits = max(4, ceil(log10(abs(value) / step)) + 1) if value else 1
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4) and step >= size / 100:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"
