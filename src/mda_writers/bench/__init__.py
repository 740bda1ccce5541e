"""The benchmark: this package and a bare loop, side by side on the user's own disk."""

from __future__ import annotations

from mda_writers.bench.results import BenchResult, Measurement, main_table, save_plot
from mda_writers.bench.runner import run_bench
from mda_writers.bench.scenarios import SCENARIOS, BenchOptions, Case, Scenario

__all__ = [
    "SCENARIOS",
    "BenchOptions",
    "BenchResult",
    "Case",
    "Measurement",
    "Scenario",
    "main_table",
    "run_bench",
    "save_plot",
]
