"""The part of the page about the time between frames, gaps marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mda_writers.report.axis import Axis, time_axis
from mda_writers.report.html import Html, el, figures, number, table
from mda_writers.report.overview import duration
from mda_writers.report.plot import COLUMNS, Mark, extremes, plot, thinned
from mda_writers.report.timing import GAP_FACTOR, GAPS_LISTED

if TYPE_CHECKING:
    from mda_writers.report.facts import Facts


LOG_FROM = 20.0
"""The plot is by powers of ten where the longest interval is this many times the median."""


def timing_section(facts: Facts, heading: str) -> Html:
    """Return the intervals between frames, gaps marked."""
    timing = facts.timing
    title = el(heading, "Intervals between frames")
    if len(timing.interval_ms) == 0:
        return el("section", title, el("p", "There are not enough frames to tell.", class_="soft"))
    ms, gaps = timing.interval_ms, timing.gaps
    x_axis, unit = time_axis(timing.duration_s)
    x = timing.time_s / unit
    marks = [thinned(x, ms, "dots", "s0", "interval")]
    if len(gaps):
        marks.append(_gap_marks(x[gaps], ms[gaps]))
    text = (
        f"{len(ms):,} intervals, median {np.median(ms):.4g} ms, longest {ms.max():.4g} ms; "
        f"{len(gaps):,} of them are gaps."
    )
    return el(
        "section",
        title,
        figures(_timing_numbers(ms, len(gaps))),
        el(
            "figure",
            plot("Intervals between frames over time", text, x_axis, _interval_axis(ms), marks),
            el("figcaption", _timing_note(facts)),
        ),
        _gap_table(facts) if len(gaps) else None,
    )


def _timing_numbers(ms: np.ndarray, gaps: int) -> list[tuple[str, object]]:
    median, longest = float(np.median(ms)), float(ms.max())
    return [
        ("Median", number(median, f"{median:.4g} ms", data_figure="interval_ms_median")),
        ("Shortest", number(float(ms.min()), f"{ms.min():.4g} ms")),
        ("Longest", number(longest, f"{longest:.4g} ms", data_figure="interval_ms_max")),
        ("Gaps", number(gaps, data_figure="gaps")),
    ]


def _interval_axis(ms: np.ndarray) -> Axis:
    positive = ms[ms > 0]
    if len(positive) and ms.max() > LOG_FROM * np.median(ms):
        # what is shorter than a microsecond is the clock's noise
        low = max(float(np.quantile(positive, 0.01)) / 2, 1e-3)
        return Axis(low, max(float(ms.max()), 2 * low) * 1.3, "ms (log)", log=True)
    return Axis.around(ms, "ms", zero=True)


def _gap_marks(x: np.ndarray, ms: np.ndarray) -> Mark:
    if len(x) > COLUMNS:
        columns, _, high = extremes(x, ms)
        return Mark("dots", columns, high, "warn", "gap")
    return Mark("dots", x, ms, "warn", "gap")


def _timing_note(facts: Facts) -> str:
    note = (
        f"A gap is more than {GAP_FACTOR:g} times as long as is usual for its kind (which axes "
        "changed, which channel). Times are those at which frames were handed over."
    )
    if len(facts.timing.interval_ms) > 2 * COLUMNS:
        note += f" Each of {COLUMNS} columns shows its shortest to its longest interval."
    if facts.frames.cut:
        note += f" Only the first {len(facts.frames):,} frames on record were read."
    return note


def _gap_table(facts: Facts) -> Html:
    timing, frames = facts.timing, facts.frames
    rows = []
    for n in timing.longest_gaps:
        index = " ".join(f"{a}{column[n + 1]}" for a, column in frames.index.items())
        rows.append(
            (
                number(int(frames.number[n + 1])),
                index,
                duration(float(timing.time_s[n])),
                f"{timing.interval_ms[n]:.5g}",
                f"{timing.usual_ms[n]:.5g}",
            )
        )
    count = len(timing.gaps)
    caption = "Gaps" if count <= GAPS_LISTED else f"The {GAPS_LISTED} worst of {count:,} gaps"
    heads = ("Before frame", "Index", "After", "Interval (ms)", "Usual (ms)")
    return table(caption, heads, rows)
