"""The benchmark: this package, its peers, and a bare loop, side by side on the user's own disk."""

from __future__ import annotations

from mda_writers.bench.options import BenchOptions
from mda_writers.bench.plot import save_plot
from mda_writers.bench.result import BenchResult, Measurement
from mda_writers.bench.runner import run_bench
from mda_writers.bench.scenarios import SCENARIOS, Case, Scenario
from mda_writers.bench.table import main_table

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
