"""The words of `python -m mda_writers bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mda_writers.bench.results import main_table, save_plot
from mda_writers.bench.runner import run_bench
from mda_writers.bench.scenarios import SCENARIOS, BenchOptions

TABLE_COLUMNS = 200
"""Wide enough for every column where the output is a file and has no width."""

COLD_IDLE_S = 6.0
"""After so long a rest, virtual machines have been seen to have given free memory away."""


def bench(
    scenario: Annotated[
        list[str] | None, typer.Option(help=f"Any of: {', '.join(SCENARIOS)}.")
    ] = None,
    runs: Annotated[int, typer.Option(help="Runs of each candidate; medians are shown.")] = 3,
    n_bytes: Annotated[
        str | None, typer.Option("--bytes", help="Pixel bytes per run, such as 2GiB or 500MB.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Frame height x width, such as 2048x2048.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Candidates, separated by commas.")] = None,
    out: Annotated[Path, typer.Option(help="A folder on the disk to measure.")] = Path("bench_out"),
    json: Annotated[Path | None, typer.Option(help="Save every measurement here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Save a picture here (.svg, .png).")] = None,
    budget_s: Annotated[float, typer.Option(help="Time limit per run in seconds.")] = 30.0,
    cold: Annotated[
        bool,
        typer.Option(
            "--cold", help="Rest instead of warming up the page cache, see benchmarks/README.md."
        ),
    ] = False,
) -> None:
    """Measure this package and a bare loop on this disk, in alternating runs."""
    try:
        options = BenchOptions(
            scenarios=tuple(scenario or ("large",)),
            out=out,
            runs=runs,
            only=tuple(name.strip() for name in only.split(",")) if only else (),
            shape=parse_shape(shape) if shape else None,
            n_bytes=parse_bytes(n_bytes) if n_bytes else None,
            budget_s=budget_s,
            warm_memory=not cold,
            idle_s=COLD_IDLE_S if cold else 0.0,
        )
        result = run_bench(options, progress=lambda text: print(text, file=sys.stderr))
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    if json:
        result.save_json(json)
    if plot:
        save_plot(result, plot)
    console = Console()
    Console(width=max(console.width, TABLE_COLUMNS)).print(main_table(result))
    if any(one.error or one.intact is False for one in result.measurements):
        raise typer.Exit(1)


UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(text: str) -> int:
    """Return the number of bytes that "2GiB", "500 MB" or "1048576" mean."""
    digits = text.strip().rstrip("BbGgIiKkMm ")
    unit = text.strip()[len(digits) :].strip().upper() or "B"
    if unit not in UNITS:
        raise ValueError(f"No unit {unit!r} in {text!r}. There are: {', '.join(UNITS)}.")
    try:
        return int(float(digits) * UNITS[unit])
    except ValueError:
        raise ValueError(f"{text!r} is no number of bytes. Write it as 2GiB or 500MB.") from None


def parse_shape(text: str) -> tuple[int, int]:
    """Return the height and width that "1200x1600" means."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise ValueError(f"{text!r} is no shape. Write it as 2048x2048.") from None
    return height, width
