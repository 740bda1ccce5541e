"""One measurement in a separate process: `python -m mda_writers.bench.measure`.

Nothing that an earlier candidate imported, allocated or cached is left when the next one runs.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import psutil

from mda_writers.bench.camera import Camera, frame_metadata, make_pool
from mda_writers.bench.candidates import CANDIDATES, Candidate, Job
from mda_writers.bench.results import Measurement

LOSSY_COUNTS = 3
"""How far pixels may be off on average after a lossy encoder, of 255; another frame's noise, or
another place of it, is further off."""

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""proc(5): writing 5 to clear_refs sets the peak of resident memory back to what it is now."""

CHUNK = bytes(8 * 2**20)

MAX_BYTES = 2**31
"""Beyond a tenth of memory (Linux's `dirty_background_ratio`) the warm-up would reach the disk."""


def measure(candidate: Candidate, job: Job, scenario: str, *, warm: bool = True) -> Measurement:
    """Return what it cost `candidate` to do `job`, until its files were durable."""
    candidate.prepare(job)
    if warm:
        warm_page_cache(job.path, job.n * job.frame_bytes)
    usage = Usage()
    begun_ns = perf_counter_ns()
    candidate.run(job)
    sync_tree(job.path)
    durable_ns = perf_counter_ns()
    cpu_s, peak_rss_bytes = usage.cpu_s(), usage.peak_rss_bytes()

    n_frames = job.n if candidate.own_camera else job.frames.n_taken
    seconds = (durable_ns - begun_ns) / 1e9
    measurement = Measurement(
        scenario=scenario,
        candidate=candidate.name,
        shape=job.shape,
        n_planned=job.n,
        n_frames=n_frames,
        seconds=seconds,
        mb_per_s=n_frames * job.frame_bytes / seconds / 1e6,
        frames_per_s=n_frames / seconds,
        cpu_s=cpu_s,
        peak_rss_mb=peak_rss_bytes / 1e6,
        file_mb=size_of_tree(job.path) / 1e6,
        intact=is_intact(candidate, job, n_frames),
    )
    return measurement if candidate.own_camera else _with_times(measurement, job, durable_ns)


def _with_times(measurement: Measurement, job: Job, durable_ns: int) -> Measurement:
    """Return `measurement` with the hand-over of single frames, and its drift.

    The drift is the means over the first and the last tenth: means, because a writer that gives
    way once in a hundred frames does so for all of them.
    """
    ms = job.frames.handover_ns() / 1e6
    tenth = max(1, len(ms) // 10)
    return replace(
        measurement,
        handover_p50_ms=float(np.percentile(ms, 50)),
        handover_p99_ms=float(np.percentile(ms, 99)),
        handover_max_ms=float(ms.max()),
        first_tenth_ms=float(ms[:tenth].mean()),
        last_tenth_ms=float(ms[-tenth:].mean()),
        finish_s=(durable_ns - job.frames.last_taken_ns()) / 1e9,
    )


def is_intact(candidate: Candidate, job: Job, n_frames: int) -> bool | None:
    """Return whether a stock reader finds the first, middle and last frame where they belong.

    None where there is nothing to read. A candidate's own camera makes unknown frames: then they
    only have to be there.
    """
    try:
        checks = [_agrees(candidate, job, i) for i in {0, n_frames // 2, n_frames - 1}]
    except Exception:  # what a stock reader cannot read is not intact, whatever it raises
        return False
    return None if None in checks else all(checks)


def _agrees(candidate: Candidate, job: Job, index: int) -> bool | None:
    found = candidate.read(job.path, index)
    if found is None:
        return None
    if candidate.own_camera:
        return found.shape == job.shape
    given = job.frames.frame(index)
    if candidate.lossy and found.shape == given.shape:
        return float(np.abs(found.astype(float) - given).mean()) < LOSSY_COUNTS
    return np.array_equal(found, given)


def main(words: dict[str, Any]) -> Measurement:
    """Return the measurement asked for by the runner."""
    candidate = CANDIDATES[words["candidate"]]
    if reason := candidate.available():
        raise RuntimeError(f"{candidate.name} cannot run: {reason}")
    shape = (int(words["shape"][0]), int(words["shape"][1]))
    job = Job(
        path=Path(words["path"]),
        frames=Camera(make_pool(shape, words["dtype"]), words["n"], words["budget_s"]),
        n=words["n"],
        shape=shape,
        dtype=words["dtype"],
        metadata=frame_metadata,
    )
    return measure(candidate, job, words["scenario"], warm=words["warm"])


class Usage:
    """Processor seconds and peak memory of this process since the object was made."""

    def __init__(self) -> None:
        _reset_peak_rss()
        self._idle_bytes: int = psutil.Process().memory_info().rss
        self._cpu_s = _cpu_s()

    def cpu_s(self) -> float:
        """Return user and system seconds of all threads and finished children."""
        return _cpu_s() - self._cpu_s

    def peak_rss_bytes(self) -> int:
        """Return how far resident memory rose above the idle process.

        Pages of a memory-mapped file count: they are resident too. Where the peak cannot be set
        back (not Linux), an earlier, higher peak hides this one and 0 is returned.
        """
        return max(0, _peak_rss_bytes() - self._idle_bytes)


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _reset_peak_rss() -> None:
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text(RESET_PEAK)


def _peak_rss_bytes() -> int:
    if STATUS.exists():
        return _high_water_mark_bytes(STATUS.read_text())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    return _maxrss_bytes()


def _high_water_mark_bytes(status: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _maxrss_bytes() -> int:
    import resource  # absent on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def sync_tree(path: Path) -> None:
    """Return once every file at or below `path`, and every folder's list of files, is durable."""
    if path.is_dir():
        for child in sorted(path.iterdir()):
            sync_tree(child)
    _sync(path)


def size_of_tree(path: Path) -> int:
    """Return the bytes of all files at or below `path`."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder, and needs not to
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Gives every candidate the page cache of a physical machine, even inside a virtual one.
#
# A virtual machine may hand memory that is free for some seconds back to its host, and get it
# again page by page when it is touched. Everything that goes through the page cache pays for
# that: on the machine this was written on, the same loop of plain `write` calls took 0.35 GB/s
# after six idle seconds and 1.4 GB/s at once afterwards, while `O_DIRECT` was the same both
# times. Without a warm-up, the order of the candidates would decide who wins, and ratios to
# peers would be three times too good.


def warm_page_cache(folder: Path, n_bytes: int) -> None:
    """Return with up to `n_bytes` of memory fresh from a page cache that is empty again.

    A file is written and deleted before the system thinks of putting it on the disk.
    """
    path = folder / "warm-up"
    with path.open("wb", buffering=0) as file:
        for _ in range(min(n_bytes, MAX_BYTES) // len(CHUNK)):
            file.write(CHUNK)
    path.unlink()


if __name__ == "__main__":
    print(json.dumps(asdict(main(json.loads(sys.argv[1])))))
