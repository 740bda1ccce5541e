"""One measurement in a process of its own: `python -m mda_writers.bench.child`.

Nothing that an earlier contestant imported, allocated or cached is left when the next one runs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from mda_writers.bench.contestants import CONTESTANTS, Contestant, Job
from mda_writers.bench.durable import size_of_tree, sync_tree
from mda_writers.bench.frames import Camera, make_pool
from mda_writers.bench.metadata import frame_metadata
from mda_writers.bench.result import Measurement
from mda_writers.bench.usage import Usage
from mda_writers.bench.warm import warm_page_cache

LOSSY_COUNTS = 3
"""How far pixels may be off on average after a lossy encoder, of 255; another frame's noise, or
another place of it, is further off."""


def measure(contestant: Contestant, job: Job, scenario: str, *, warm: bool = True) -> Measurement:
    """Return what it cost `contestant` to do `job`, until its files were durable."""
    contestant.prepare(job)
    if warm:
        warm_page_cache(job.path, job.n * job.frame_bytes)
    usage = Usage()
    begun_ns = perf_counter_ns()
    contestant.run(job)
    sync_tree(job.path)
    durable_ns = perf_counter_ns()
    cpu_s, peak_rss_bytes = usage.cpu_s(), usage.peak_rss_bytes()

    n_frames = job.n if contestant.own_camera else job.frames.n_taken
    seconds = (durable_ns - begun_ns) / 1e9
    measurement = Measurement(
        scenario=scenario,
        contestant=contestant.name,
        shape=job.shape,
        n_planned=job.n,
        n_frames=n_frames,
        seconds=seconds,
        mb_per_s=n_frames * job.frame_bytes / seconds / 1e6,
        frames_per_s=n_frames / seconds,
        cpu_s=cpu_s,
        peak_rss_mb=peak_rss_bytes / 1e6,
        file_mb=size_of_tree(job.path) / 1e6,
        intact=is_intact(contestant, job, n_frames),
    )
    return measurement if contestant.own_camera else _with_times(measurement, job, durable_ns)


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


def is_intact(contestant: Contestant, job: Job, n_frames: int) -> bool | None:
    """Return whether a stock reader finds the first, middle and last frame where they belong.

    None where there is nothing to read. A camera of its own makes frames nobody knows: then they
    only have to be there.
    """
    try:
        checks = [_agrees(contestant, job, i) for i in {0, n_frames // 2, n_frames - 1}]
    except Exception:  # what a stock reader cannot read is not intact, whatever it raises
        return False
    return None if None in checks else all(checks)


def _agrees(contestant: Contestant, job: Job, index: int) -> bool | None:
    found = contestant.read(job.path, index)
    if found is None:
        return None
    if contestant.own_camera:
        return found.shape == job.shape
    given = job.frames.frame(index)
    if contestant.lossy and found.shape == given.shape:
        return float(np.abs(found.astype(float) - given).mean()) < LOSSY_COUNTS
    return np.array_equal(found, given)


def main(words: dict[str, Any]) -> Measurement:
    """Return the measurement asked for by the runner."""
    contestant = CONTESTANTS[words["contestant"]]
    if reason := contestant.available():
        raise RuntimeError(f"{contestant.name} cannot run: {reason}")
    shape = (int(words["shape"][0]), int(words["shape"][1]))
    job = Job(
        path=Path(words["path"]),
        frames=Camera(make_pool(shape, words["dtype"]), words["n"], words["budget_s"]),
        n=words["n"],
        shape=shape,
        dtype=words["dtype"],
        metadata=frame_metadata,
    )
    return measure(contestant, job, words["scenario"], warm=words["warm"])


if __name__ == "__main__":
    print(json.dumps(asdict(main(json.loads(sys.argv[1])))))
