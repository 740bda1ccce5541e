"""The result as a picture for the README."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from mda_writers.bench.contestants import CONTESTANTS
from mda_writers.bench.result import BenchResult, Measurement

OURS_COLOUR, PEER_COLOUR, BARE_COLOUR = "#0072b2", "#b8b8b8", "#555555"
"""Blue of the Okabe-Ito palette, which the colour-blind can tell from the greys."""

WIDTH_IN = 7.0
BAR_IN = 0.28
HEAD_IN = 0.9


def save_plot(result: BenchResult, path: Path) -> None:
    """Write bars of throughput, a panel for each scenario; the suffix decides the format.

    Raises
    ------
    ImportError
        matplotlib is not there: `pip install mda-writers[bench]`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    good = [one for one in result.medians() if one.error is None]
    cases = groupby(good, key=lambda one: (one.scenario, one.n_planned))
    panels = [list(group) for _, group in cases]
    heights = [HEAD_IN + BAR_IN * len(panel) for panel in panels]
    figure = Figure(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _draw(axes, sorted(panel, key=lambda one: one.mb_per_s))
    figure.savefig(path, dpi=150)


def _draw(axes: Any, panel: list[Measurement]) -> None:
    first = panel[0]
    labels = [CONTESTANTS[one.contestant].label for one in panel]
    bars = axes.barh(labels, [one.mb_per_s for one in panel], color=[_colour(one) for one in panel])
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.set_title(f"{first.n_planned} frames of {first.shape[0]} x {first.shape[1]}", fontsize=10)
    axes.set_xlabel("MB/s until durable on disk")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.12)


def _colour(one: Measurement) -> str:
    if one.contestant in ("bare", "camera"):
        return BARE_COLOUR
    return OURS_COLOUR if CONTESTANTS[one.contestant].ours else PEER_COLOUR
