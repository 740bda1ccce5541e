"""Alternating runs: every candidate once, then every candidate again.

A disk has moods (its cache fills, a neighbour wakes up). Taking turns lets each of them hit
everyone alike, which makes ratios within one benchmark worth quoting.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import psutil

from mda_writers.bench.candidates import CANDIDATES, MEASURED_BY
from mda_writers.bench.results import BenchResult, Measurement
from mda_writers.bench.scenarios import SCENARIOS, BenchOptions, Case, cases_of

LIBRARIES = (
    "mda-writers",
    "numpy",
    "pymmcore-plus",
    "tifffile",
    "zarr",
    "ome-writers",
    "acquire-zarr",
    "tensorstore",
    "ndstorage",
)


class Turn(NamedTuple):
    """One candidate's turn."""

    scenario: str
    case: Case
    candidate: str


def run_bench(
    options: BenchOptions, *, progress: Callable[[str], None] = lambda text: None
) -> BenchResult:
    """Measure, and return everything that was measured.

    Parameters
    ----------
    options
        What to measure.
    progress
        Called with a line before each turn and after it.

    Raises
    ------
    ValueError
        A scenario or candidate that does not exist; the text lists those that do.
    """
    _check_names(options)
    options.out.mkdir(parents=True, exist_ok=True)
    result = BenchResult(machine=describe_machine(options.out))
    turns = list(_turns(options, result))
    for i, turn in enumerate(turns, 1):
        head = f"{i}/{len(turns)} {turn.scenario} {turn.case.n_frames} x {turn.candidate}"
        progress(head)
        measurement = run_turn(turn, options)
        result.measurements.append(measurement)
        progress(f"{head}: {measurement.error or f'{measurement.mb_per_s:.0f} MB/s'}")
    return result


def run_turn(turn: Turn, options: BenchOptions) -> Measurement:
    """Return one measurement of a fresh process; what it wrote is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=options.out))
    # What the previous turn left to be written back would be paid for by this one.
    if hasattr(os, "sync"):
        os.sync()
    time.sleep(options.idle_s)
    try:
        return _child(turn, options, path)
    except (subprocess.SubprocessError, ValueError) as error:
        return _failed(turn, error)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _child(turn: Turn, options: BenchOptions, path: Path) -> Measurement:
    words = {
        "scenario": turn.scenario,
        "candidate": turn.candidate,
        "shape": turn.case.shape,
        "dtype": turn.case.dtype,
        "n": turn.case.n_frames,
        "path": str(path),
        "budget_s": options.budget_s,
        "warm": options.warm_memory,
    }
    done = subprocess.run(
        [sys.executable, *MEASURED_BY, json.dumps(words)],
        capture_output=True,
        text=True,
        timeout=options.timeout_s,
        check=True,
    )
    # Peers print too; ours is the last line.
    return Measurement.from_dict(json.loads(done.stdout.splitlines()[-1]))


def _failed(turn: Turn, error: Exception) -> Measurement:
    """Return a measurement that says in one line why there is none."""
    lines = getattr(error, "stderr", None) or str(error)
    text = lines.decode() if isinstance(lines, bytes) else lines
    return Measurement(
        scenario=turn.scenario,
        candidate=turn.candidate,
        shape=turn.case.shape,
        n_planned=turn.case.n_frames,
        error=text.strip().splitlines()[-1],
    )


def _turns(options: BenchOptions, result: BenchResult) -> Iterator[Turn]:
    """Yield the turns in order, and note in `result` who takes none."""
    for name in options.scenarios:
        scenario = SCENARIOS[name]
        wanted = options.only or scenario.candidates
        able = [one for one in wanted if _is_able(one, result)]
        for _ in range(options.runs):
            for case in cases_of(scenario, options):
                yield from (Turn(name, case, one) for one in able)


def _is_able(name: str, result: BenchResult) -> bool:
    candidate = CANDIDATES[name]
    if reason := candidate.available():
        result.unavailable[name] = reason
        return False
    result.stores_metadata[name] = candidate.keeps_metadata
    return True


def _check_names(options: BenchOptions) -> None:
    _check("scenario", options.scenarios, SCENARIOS)
    _check("candidate", options.only, CANDIDATES)


def _check(kind: str, names: tuple[str, ...], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"No {kind} named {name!r}. There are: {', '.join(known)}.")


def describe_machine(out: Path) -> dict[str, str]:
    """Return what a reader needs to know before comparing numbers with his own.

    Parameters
    ----------
    out
        A folder on the disk that is measured.
    """
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "disk": _disk(out),
        "python": platform.python_version(),
        **{name: found for name in LIBRARIES if (found := _version(name))},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return lines[0].partition(":")[2].strip() if lines else platform.machine()


def _disk(out: Path) -> str:
    """Return file system and device of the mount that `out` is on."""
    mounts = [
        part
        for part in psutil.disk_partitions(all=True)
        if out.resolve().is_relative_to(part.mountpoint)
    ]
    if not mounts:
        return "unknown"
    deepest = max(mounts, key=lambda part: len(part.mountpoint))
    free = psutil.disk_usage(str(out)).free / 2**30
    return f"{deepest.fstype} on {deepest.device}, {free:.0f} GiB free"


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
