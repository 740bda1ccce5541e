"""The part of the page about how fast frames came and went, and how full queue and disk were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mda_writers.report.axis import Axis, time_axis
from mda_writers.report.html import Html, el
from mda_writers.report.plot import Mark, plot

if TYPE_CHECKING:
    from mda_writers.report.facts import Facts


def load_section(facts: Facts, heading: str) -> Html:
    """Return how fast frames came and were written, and how full queue and disk were."""
    rate = _rate_figure(facts)
    load = [figure for figure in _load_figures(facts) if figure is not None]
    missing = (
        None if load else el("p", "How full queue and disk were was not recorded.", class_="soft")
    )
    plots = [figure for figure in (rate, *load) if figure is not None]
    content = el("div", *plots, class_="pair") if plots else None
    return el("section", el(heading, "Throughput, queue and disk"), missing, content)


def _rate_figure(facts: Facts) -> Html | None:
    """Return the rate at which frames were handed over, in equal slices of time."""
    timing = facts.timing
    if timing.duration_s <= 0:
        return None
    slices = int(min(120, max(8, len(timing.time_s) // 8)))
    counts, edges = np.histogram(timing.time_s, slices, (0.0, timing.duration_s))
    rate = counts / (timing.duration_s / slices)
    x_axis, unit = time_axis(timing.duration_s)
    marks = [Mark("line", (edges[1:] + edges[:-1]) / 2 / unit, rate, "s0")]
    average = len(timing.time_s) / timing.duration_s
    shown = f"{average:,.0f}" if average >= 1000 else f"{average:.4g}"
    text = f"On average {shown} frames per second."
    axis = Axis.around(rate, "frames/s", zero=True)
    return _figure("Frames handed over per second", text, x_axis, axis, marks)


def _load_figures(facts: Facts) -> list[Html | None]:
    load = facts.load
    if not load or not len(facts.frames):
        return []
    columns = {
        key: np.array([sample.get(key, np.nan) for sample in load], np.float64)
        for key in ("monotonic_s", "queued_bytes", "written_bytes", "free_bytes")
    }
    seconds = np.maximum(columns["monotonic_s"] - facts.frames.monotonic_s[0], 0.0)
    end = max(facts.seconds, float(seconds[-1]), 1e-3)
    # when the last frame is on disk the queue is empty
    ended = facts.stored.report is not None and facts.seconds > seconds[-1]
    written = np.append(columns["written_bytes"], facts.bytes_written) if ended else None
    return [
        _write_rate(
            np.append(seconds, facts.seconds) if ended else seconds,
            columns["written_bytes"] if written is None else written,
            end,
        ),
        _sampled(
            "Frames waiting in memory (queue)",
            "At most",
            seconds,
            columns["queued_bytes"],
            1e6,
            "MB",
            end,
        ),
        _sampled("Free disk space", "At least", seconds, columns["free_bytes"], 1e9, "GB", end),
    ]


def _write_rate(seconds: np.ndarray, written: np.ndarray, end: float) -> Html | None:
    if len(seconds) < 3:
        return None
    rate = np.diff(written) / np.maximum(np.diff(seconds), 1e-6) / 1e6
    x_axis, unit = time_axis(end)
    middle = (seconds[1:] + seconds[:-1]) / 2 / unit
    text = f"On average {written[-1] / end / 1e6:.4g} MB/s, from the first frame to the last."
    axis = Axis.around(rate, "MB/s", zero=True)
    return _figure("Written to disk", text, x_axis, axis, [Mark("line", middle, rate, "s2")])


def _sampled(
    title: str,
    bound: str,
    seconds: np.ndarray,
    values: np.ndarray,
    scale: float,
    unit: str,
    end: float,
) -> Html:
    values = values / scale
    x_axis, x_unit = time_axis(end)
    lowest = bound == "At least"
    extreme = float(np.nanmin(values) if lowest else np.nanmax(values))
    axis = Axis.around(values, unit, zero=not lowest)
    kind = "line" if len(values) > 1 else "dots"
    marks = [Mark(kind, seconds / x_unit, values, "s1" if lowest else "s0")]
    return _figure(title, f"{bound} {extreme:.4g} {unit}.", x_axis, axis, marks)


def _figure(title: str, text: str, x_axis: Axis, y_axis: Axis, marks: list[Mark]) -> Html:
    caption = el("figcaption", el("strong", title), " ", text)
    return el("figure", plot(title, text, x_axis, y_axis, marks), caption)
