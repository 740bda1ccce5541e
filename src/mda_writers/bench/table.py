"""The result as tables on the terminal."""

from __future__ import annotations

from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mda_writers.bench.contestants import CONTESTANTS
from mda_writers.bench.result import BenchResult, Measurement
from mda_writers.bench.scenarios import SCENARIOS

BARE = "bare"
OURS = ("bigtiff", "omezarr", "record-bigtiff", "video-h264", "video-mjpg", "video-ffv1")
"""Whose multiple of each peer is shown, where they took part."""


def main_table(result: BenchResult) -> Group:
    """Return a table for each scenario and number of frames, and what machine it was.

    Contestants are sorted by throughput. `x bare` is their throughput over the bare loop's, and
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
    ours = [name for name in OURS if any(one.contestant == name for one in group)]
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
    label = CONTESTANTS[one.contestant].label
    if one.error:
        return [label, f"failed: {one.error}"]
    stopped = f" ({one.n_frames} frames)" if one.n_frames < one.n_planned else ""
    return [
        label + stopped,
        "yes" if result.stores_metadata.get(one.contestant) else "no",
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
            by_name.setdefault(one.contestant, []).append(one)
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
        CONTESTANTS[long.contestant].label,
        f"{short.peak_rss_mb:.0f}",
        f"{long.peak_rss_mb:.0f}",
        "" if first is None else f"{first * 1e3:.1f}",
        "" if last is None else f"{last * 1e3:.1f}",
    ]


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
