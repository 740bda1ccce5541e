"""What was measured: saved, shown as a table, drawn."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mda_writers.bench.candidates import CANDIDATES
from mda_writers.bench.scenarios import SCENARIOS

BARE = "bare"
OURS = ("bigtiff", "omezarr", "record-bigtiff", "video-h264", "video-mjpg", "video-ffv1")
"""Whose multiple of each peer is shown, where they took part."""

OURS_COLOUR, PEER_COLOUR, BARE_COLOUR = "#0072b2", "#b8b8b8", "#555555"
"""Blue of the Okabe-Ito palette, which colour-blind readers can distinguish from the greys."""

WIDTH_IN = 7.0
BAR_IN = 0.28
HEAD_IN = 0.9


@dataclass(frozen=True, slots=True)
class Measurement:
    """One candidate writing once, in a separate process.

    Times of frames are None where the candidate has its own camera.
    """

    scenario: str
    candidate: str
    shape: tuple[int, int]
    n_planned: int
    n_frames: int = 0
    seconds: float = 0.0
    mb_per_s: float = 0.0
    frames_per_s: float = 0.0
    handover_p50_ms: float | None = None
    handover_p99_ms: float | None = None
    handover_max_ms: float | None = None
    first_tenth_ms: float | None = None
    last_tenth_ms: float | None = None
    finish_s: float | None = None
    cpu_s: float = 0.0
    peak_rss_mb: float = 0.0
    file_mb: float = 0.0
    intact: bool | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """What repeated runs have in common."""
        return self.scenario, self.n_planned, self.candidate

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the measurement that `asdict` and JSON made `values` of."""
        height, width = values["shape"]
        return cls(**{**values, "shape": (height, width)})


@dataclass(slots=True)
class BenchResult:
    """All measurements of a benchmark, the machine, and who could not take part."""

    machine: dict[str, str]
    measurements: list[Measurement] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    stores_metadata: dict[str, bool] = field(default_factory=dict)

    def medians(self) -> list[Measurement]:
        """Return the median of each candidate's successful runs, in the order they ran.

        Each number is a separate median. A candidate of which one run was not intact is not
        intact; one without a successful run is returned with its error.
        """
        groups: dict[tuple[str, int, str], list[Measurement]] = {}
        for one in self.measurements:
            groups.setdefault(one.key, []).append(one)
        return [_median(group) for group in groups.values()]

    def ratio(self, one: Measurement, name: str) -> float | None:
        """Return the throughput of `one` over that of the candidate `name` in the same case."""
        for other in self.medians():
            if other.key == (one.scenario, one.n_planned, name) and other.mb_per_s:
                return one.mb_per_s / other.mb_per_s
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return everything, and the medians, ready for JSON."""
        return {**asdict(self), "medians": [asdict(one) for one in self.medians()]}

    def save_json(self, path: Path) -> None:
        """Write everything to `path`."""
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load_json(cls, path: Path) -> Self:
        """Return the result that `save_json` wrote."""
        values = json.loads(path.read_text())
        return cls(
            machine=values["machine"],
            measurements=[Measurement.from_dict(one) for one in values["measurements"]],
            unavailable=values["unavailable"],
            stores_metadata=values["stores_metadata"],
        )


def _median(group: list[Measurement]) -> Measurement:
    good = [one for one in group if one.error is None]
    if not good:
        return group[-1]
    names = [one.name for one in fields(Measurement)]
    return Measurement(
        **{name: _median_value([getattr(one, name) for one in good]) for name in names}
    )


def _median_value(values: list[Any]) -> Any:
    if isinstance(values[0], bool):
        return all(values)
    if isinstance(values[0], float) and None not in values:
        return median(values)
    if isinstance(values[0], int):
        return int(median(values))
    return values[0]


def main_table(result: BenchResult) -> Group:
    """Return a table for each scenario and number of frames, and what machine it was.

    Candidates are sorted by throughput. `x bare` is their throughput over the bare loop's, and
    `bigtiff x` how many times faster our writer is than the one in the row.
    """
    medians = result.medians()
    parts: list[RenderableType] = [_machine_line(result)]
    for _, group in groupby(medians, key=lambda one: (one.scenario, one.n_planned)):
        parts.append(_case_table(result, list(group)))
    if growth := _growth_table(medians):
        parts.append(growth)
    parts += [Text(f"not there: {name}: {why}") for name, why in result.unavailable.items()]
    return Group(*parts)


def _machine_line(result: BenchResult) -> Text:
    return Text(" · ".join(f"{key} {value}" for key, value in result.machine.items()), style="dim")


def _case_table(result: BenchResult, group: list[Measurement]) -> Table:
    first = group[0]
    height, width = first.shape
    dtype = SCENARIOS[first.scenario].cases[0].dtype
    title = f"{first.scenario}: {first.n_planned} frames of {height} x {width} {dtype}"
    table = Table(title=title, caption=SCENARIOS[first.scenario].question)
    ours = [name for name in OURS if any(one.candidate == name for one in group)]
    table.add_column("writer")
    table.add_column("metadata")
    for name in ("MB/s", "x bare", *(f"{name} x" for name in ours), "frames/s"):
        table.add_column(name, justify="right")
    for name in ("p50 ms", "p99 ms", "max ms", "finish s", "CPU s", "peak MB", "intact"):
        table.add_column(name, justify="right")
    for one in sorted(group, key=lambda one: -one.mb_per_s):
        table.add_row(*_cells(result, one, ours))
    return table


def _cells(result: BenchResult, one: Measurement, ours: list[str]) -> list[str]:
    label = CANDIDATES[one.candidate].label
    if one.error:
        return [label, f"failed: {one.error}"]
    stopped = f" ({one.n_frames} frames)" if one.n_frames < one.n_planned else ""
    return [
        label + stopped,
        "yes" if result.stores_metadata.get(one.candidate) else "no",
        f"{one.mb_per_s:.0f}",
        _number(result.ratio(one, BARE)),
        *(_number(_times_faster(result, one, name)) for name in ours),
        f"{one.frames_per_s:.0f}",
        _number(one.handover_p50_ms),
        _number(one.handover_p99_ms),
        _number(one.handover_max_ms, digits=0),
        _number(one.finish_s),
        f"{one.cpu_s:.1f}",
        f"{one.peak_rss_mb:.0f}",
        {True: "yes", False: "NO", None: ""}[one.intact],
    ]


def _times_faster(result: BenchResult, one: Measurement, name: str) -> float | None:
    ratio = result.ratio(one, name)
    return 1 / ratio if ratio else None


def _growth_table(medians: list[Measurement]) -> Table | None:
    """Return how memory and time per frame grow, for those who wrote two lengths of run."""
    by_name: dict[str, list[Measurement]] = {}
    for one in medians:
        if one.scenario == "memory" and one.error is None:
            by_name.setdefault(one.candidate, []).append(one)
    pairs = [sorted(ones, key=lambda one: one.n_planned) for ones in by_name.values()]
    pairs = [ones for ones in pairs if len(ones) > 1]
    if not pairs:
        return None
    table = Table(title=f"growth from {pairs[0][0].n_planned} to {pairs[0][-1].n_planned} frames")
    table.add_column("writer")
    for name in ("peak MB, short", "peak MB, long", "µs/frame, first tenth", "last tenth"):
        table.add_column(name, justify="right")
    for short, *_, long in pairs:
        table.add_row(*_growth_cells(short, long))
    return table


def _growth_cells(short: Measurement, long: Measurement) -> list[str]:
    first, last = long.first_tenth_ms, long.last_tenth_ms
    return [
        CANDIDATES[long.candidate].label,
        f"{short.peak_rss_mb:.0f}",
        f"{long.peak_rss_mb:.0f}",
        "" if first is None else f"{first * 1e3:.1f}",
        "" if last is None else f"{last * 1e3:.1f}",
    ]


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


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
    labels = [CANDIDATES[one.candidate].label for one in panel]
    bars = axes.barh(labels, [one.mb_per_s for one in panel], color=[_colour(one) for one in panel])
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.set_title(f"{first.n_planned} frames of {first.shape[0]} x {first.shape[1]}", fontsize=10)
    axes.set_xlabel("MB/s until durable on disk")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.12)


def _colour(one: Measurement) -> str:
    if one.candidate in ("bare", "camera"):
        return BARE_COLOUR
    return OURS_COLOUR if CANDIDATES[one.candidate].ours else PEER_COLOUR
