"""The sections of the page that are plots: timing, drift, load, values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mda_writers.report.facts import GAP_FACTOR, GAPS_LISTED, Drift, drift_of
from mda_writers.report.html import Html, el, figures, join, name, number, table
from mda_writers.report.pixels import binned, quantile
from mda_writers.report.sections import duration
from mda_writers.report.svg import COLUMNS, Axis, Mark, extremes, plot, thinned, time_axis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.report.facts import Facts
    from mda_writers.report.pixels import Histogram


LOG_FROM = 20.0
"""The plot is by powers of ten where the longest interval is this many times the median."""

BINS = 128
HISTOGRAMS = 12
"""Channels whose histograms are plotted."""


def timing_section(facts: Facts, heading: str) -> Html:
    """Return the intervals between frames, gaps marked."""
    timing = facts.timing
    title = el(heading, "Intervals between frames")
    if len(timing.interval_ms) == 0:
        return el("section", title, el("p", "There are not enough frames for it.", class_="soft"))
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


def drift_section(facts: Facts, heading: str) -> Html:
    """Return how the stages moved away from where they were first."""
    drift = drift_of(facts.frames)
    title = el(heading, "Stage and focus drift")
    if not drift.axes:
        return el(
            "section",
            title,
            el(
                "p",
                "No stage position came with the frames (hardware-triggered sequences and cameras "
                "that you poll yourself bring none).",
                class_="soft",
            ),
        )
    return el(
        "section",
        title,
        *_changes(facts, drift),
        el(
            "p",
            "Difference from the first frame at the same position, plane and channel, as the "
            f"stages told it; {drift.asked:,} of {len(facts.frames):,} frames have a position.",
            class_="note",
        ),
    )


def _changes(facts: Facts, drift: Drift) -> Iterator[Html]:
    """Return a plot of each axis that moved, and a line about those that did not."""
    moved = [axis for axis in drift.axes if drift.largest_um(axis)]
    still = [axis for axis in drift.axes if axis not in moved]
    if moved:
        yield el("div", *(_drift_figure(facts, drift, axis) for axis in moved), class_="pair")
    if still:
        letters = [number(0.0, "xyz"[axis], data_figure=f"drift_{'xyz'[axis]}") for axis in still]
        yield el("p", "No change at all of stage ", join(letters, ", "), ".")


def _drift_figure(facts: Facts, drift: Drift, axis: int) -> Html:
    x_axis, unit = time_axis(facts.timing.duration_s)
    change = drift.change_um[:, axis]
    largest = drift.largest_um(axis)
    letter = "xyz"[axis]
    marks = [thinned(drift.time_s / unit, change, "dots", f"s{axis}")]
    title = f"Change of stage {letter}"
    return el(
        "figure",
        plot(title, f"At most {largest:.3g} µm.", x_axis, Axis.around(change, "µm"), marks),
        el(
            "figcaption",
            el("strong", title),
            " at most ",
            number(largest, f"{largest:.3g} µm", data_figure=f"drift_{letter}"),
        ),
    )


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


def values_section(facts: Facts, heading: str) -> Html | None:
    """Return the histogram of each channel, and how much of it is saturated."""
    if facts.pixels is None or not facts.pixels.histograms:
        return None
    histograms = {c: h for c, h in facts.pixels.histograms.items() if h.frames}
    shown = list(histograms.items())[:HISTOGRAMS]
    more = len(histograms) - len(shown)
    return el(
        "section",
        el(heading, "Pixel values"),
        el("div", *(_histogram(c, h, n) for n, (c, h) in enumerate(shown)), class_="pair"),
        el("p", f"{more} more channels are not plotted.", class_="note") if more else None,
        _values_table(histograms),
    )


def _histogram(channel: str, histogram: Histogram, n: int) -> Html:
    values, counts = histogram.values()
    title = f"Pixel values of channel {channel}" if channel else "Pixel values"
    if not len(values):
        return el("figure", el("figcaption", f"{title}: there is no finite value."))
    edges, heights = binned(values, counts, BINS)
    width = edges[1] - edges[0] if len(edges) > 1 else 1.0
    x = np.repeat(np.append(edges, edges[-1] + width), 2)[1:-1]
    x_axis = Axis(float(edges[0]), float(edges[-1] + width), "value")
    y_axis = Axis(0.5, float(heights.max()) * 1.5 + 1, "pixels (log)", log=True)
    marks = [Mark("area", x, np.repeat(np.maximum(heights, 0.5), 2), f"s{n % 4}")]
    level = histogram.level
    near = level is not None and level <= x_axis.high
    text = f"From {values[0]:.6g} to {values[-1]:.6g}, median {quantile(values, counts, 0.5):.6g}."
    rules = [(level, f"saturated: {level:.6g}")] if near and level is not None else []
    return el(
        "figure",
        plot(title, text, x_axis, y_axis, marks, rules),
        el("figcaption", el("strong", name(channel or "All frames")), " ", text),
    )


def _values_table(histograms: dict[str, Histogram]) -> Html:
    rows = [_values_row(channel, histogram) for channel, histogram in histograms.items()]
    heads = (
        "Channel",
        "Darkest",
        "Median",
        "99.9 %",
        "Brightest",
        "Saturated from",
        "Saturated pixels",
        "In frames",
    )
    return table("Pixel values and saturation", heads, rows)


def _values_row(channel: str, histogram: Histogram) -> tuple[object, ...]:
    values, counts = histogram.values()
    if len(values):
        shown = [float(values[0]), *(quantile(values, counts, s) for s in (0.5, 0.999, 1.0))]
    else:
        shown = [float("nan")] * 4
    share = histogram.saturated / max(1, histogram.pixels)
    return (
        name(channel or "All frames"),
        *(f"{value:.6g}" for value in shown),
        "–" if histogram.level is None else f"{histogram.level:.6g}",
        number(
            histogram.saturated, f"{histogram.saturated:,} ({share:.2%})", data_figure="saturated"
        ),
        f"{histogram.frames_saturated:,} of {histogram.frames:,} looked at",
    )
