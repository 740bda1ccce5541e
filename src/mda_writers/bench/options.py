"""What the user may choose about a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure, how often, and on which disk.

    Parameters
    ----------
    scenarios
        Names out of `SCENARIOS`.
    out
        A folder on the disk to be measured. It is made when missing; what the benchmark writes
        into it is deleted after each run.
    runs
        How many times each contestant writes; the table shows medians.
    only
        Names of contestants; empty means those of the scenario.
    shape
        Frame height and width instead of the scenario's.
    n_bytes
        Bytes of pixels a run instead of the scenario's.
    budget_s
        The camera stops after this many seconds, so that a slow peer is rated on what it took
        until then. Finishing is not part of it.
    warm_memory
        Let each contestant find memory that the machine really has, see `warm`.
    idle_s
        Seconds of rest before each turn.
    timeout_s
        A child process that takes longer altogether is killed and reported as failed.
    """

    scenarios: tuple[str, ...] = ("large",)
    out: Path = field(default_factory=lambda: Path("bench_out"))
    runs: int = 3
    only: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None
    n_bytes: int | None = None
    budget_s: float = 30.0
    warm_memory: bool = True
    idle_s: float = 0.0
    timeout_s: float = 300.0
