"""Plots as SVG: axes, lines and bars."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.report.html import Html, el, join

if TYPE_CHECKING:
    from collections.abc import Sequence


BOX = 1000
HEIGHT = 170
"""Pixels from the top of a plot's box to its bottom."""

COLUMNS = 400
"""Points beyond which a plot shows the extremes of each column: no outlier is ever left out."""


# Plots as inline SVG that keep their text legible on any width.
#
# What is drawn is stretched with the page, in a box of `BOX` by `BOX` units with strokes of
# constant width; ticks and labels lie outside of that box, in per cent of the width, and are
# never scaled.


@dataclass(frozen=True, slots=True)
class Mark:
    """Something drawn: `kind` is ``line``, ``dots``, ``area`` or ``range`` (`y` to `y_high`)."""

    kind: str
    x: np.ndarray
    y: np.ndarray
    series: str
    name: str = ""
    y_high: np.ndarray | None = None


def plot(
    title: str,
    description: str,
    x_axis: Axis,
    y_axis: Axis,
    marks: Sequence[Mark],
    rules: Sequence[tuple[float, str]] = (),
) -> Html:
    """Return a plot with its legend.

    Parameters
    ----------
    title, description : str
        What it shows, and what is to be seen there; read out by screen readers.
    x_axis, y_axis : Axis
        The axes.
    marks : sequence of Mark
        What is drawn, later ones on top.
    rules : sequence of (float, str)
        Vertical lines at values of x, with their names.
    """
    drawn = el(
        "svg",
        *(el("path", d=_path(mark, x_axis, y_axis), class_=_class(mark)) for mark in marks),
        width="100%",
        height=HEIGHT,
        viewBox=f"0 0 {BOX} {BOX}",
        preserveAspectRatio="none",
    )
    picture = el(
        "svg",
        _grid(x_axis, y_axis),
        drawn,
        *(_rule(x_axis, value, text) for value, text in rules),
        class_="plot",
        role="img",
        aria_label=f"{title}. {description}",
    )
    return join([_legend(marks), picture])


def extremes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the x, lowest and highest y of each of `COLUMNS` columns; empty ones are left out."""
    edges = np.linspace(x[0], x[-1], COLUMNS + 1)
    starts = np.searchsorted(x, edges[:-1], "left")
    starts = starts[np.diff(starts, append=len(x)) > 0]
    return x[starts], np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)


def thinned(x: np.ndarray, y: np.ndarray, kind: str, series: str, name: str = "") -> Mark:
    """Return a mark for any number of points, sorted along x."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) <= 2 * COLUMNS:
        return Mark(kind, x, y, series, name)
    columns, low, high = extremes(x, y)
    return Mark("range", columns, low, series, name, high)


def _path(mark: Mark, x_axis: Axis, y_axis: Axis) -> str:
    x = _units(x_axis.share(mark.x))
    y = BOX - _units(y_axis.share(mark.y))
    if mark.kind == "dots":
        # a line of no length with round ends is a dot, however the box is stretched
        return "".join(f"M{a} {b}h0" for a, b in zip(x, y, strict=True))
    if mark.kind == "range" and mark.y_high is not None:
        high = BOX - _units(y_axis.share(mark.y_high))
        return "".join(f"M{a} {b}V{c}" for a, b, c in zip(x, y, high, strict=True))
    line = "L".join(f"{a} {b}" for a, b in zip(x, y, strict=True))
    if not line:
        return ""
    return f"M{x[0]} {BOX}L{line}L{x[-1]} {BOX}Z" if mark.kind == "area" else f"M{line}"


def _units(shares: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(shares * BOX), np.int64)


def _class(mark: Mark) -> str:
    return f"{mark.kind} {mark.series}"


def _grid(x_axis: Axis, y_axis: Axis) -> Html:
    parts = [el("text", y_axis.unit, x=-46, y=-12, class_="unit")]
    for share, label in y_axis.ticks():
        y = round((1 - share) * HEIGHT, 1)
        parts.append(el("line", x1=0, x2="100%", y1=y, y2=y))
        parts.append(el("text", label, x=-8, y=y + 4, class_="y"))
    for share, label in x_axis.ticks():
        x = f"{100 * share:.2f}%"
        parts.append(el("line", x1=x, x2=x, y1=HEIGHT, y2=HEIGHT + 4))
        parts.append(el("text", label, x=x, y=HEIGHT + 18, class_="x"))
    parts.append(el("line", x1=0, x2="100%", y1=HEIGHT, y2=HEIGHT, class_="base"))
    parts.append(el("text", x_axis.unit, x="100%", y=HEIGHT + 34, class_="x end"))
    return el("g", *parts, class_="grid", aria_hidden="true")


def _rule(x_axis: Axis, value: float, label: str) -> Html:
    share = float(x_axis.share(np.array([value]))[0])
    x = f"{100 * share:.2f}%"
    return el(
        "g",
        el("line", x1=x, x2=x, y1=0, y2=HEIGHT),
        el("text", label, x=x, y=-4, class_="x end" if share > 0.5 else "x start"),
        class_="rule",
    )


def _legend(marks: Sequence[Mark]) -> Html | None:
    named = [mark for mark in marks if mark.name]
    if len(named) < 2:
        return None
    items = [el("li", el("span", "", class_=f"key {m.series}"), m.name) for m in named]
    return el("ul", *items, class_="legend")


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
