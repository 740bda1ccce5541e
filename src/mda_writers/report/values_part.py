"""The part of the page about pixel values: histograms, and how much is saturated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mda_writers.report.axis import Axis
from mda_writers.report.histogram import binned, quantile
from mda_writers.report.html import Html, el, name, number, table
from mda_writers.report.plot import Mark, plot

if TYPE_CHECKING:
    from mda_writers.report.facts import Facts
    from mda_writers.report.histogram import Histogram


BINS = 128
HISTOGRAMS = 12
"""Channels whose histograms are plotted."""


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
