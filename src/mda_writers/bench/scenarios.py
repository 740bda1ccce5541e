"""What can be measured: named situations, and the options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

GIB = 2**30
OURS = ("bigtiff", "omezarr")


@dataclass(frozen=True, slots=True)
class Case:
    """A number of frames of one shape."""

    shape: tuple[int, int]
    n_frames: int
    dtype: str = "uint16"
    """The type of nearly every scientific camera; videos are of 8 bits."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Scenario:
    """A question, the cases that answer it, and who takes part by default."""

    question: str
    cases: tuple[Case, ...]
    candidates: tuple[str, ...] = ("bare", *OURS)


SCENARIOS: dict[str, Scenario] = {
    "large": Scenario(
        "How close to the disk are 2048 x 2048 frames?",
        (Case((2048, 2048), 2 * GIB // (2048 * 2048 * 2)),),
    ),
    "unaligned": Scenario(
        "What does a frame cost whose bytes do not fill whole blocks?",
        (Case((1200, 1200), 2 * GIB // (1200 * 1200 * 2)),),
    ),
    "small": Scenario(
        "How many small frames a second, with their metadata?",
        (Case((128, 128), 100_000),),
    ),
    "memory": Scenario(
        "Do memory and time per frame grow with the length of the run?",
        (Case((128, 128), 1_000), Case((128, 128), 200_000)),
        ("bare", *OURS),
    ),
    "compressed": Scenario(
        "How fast are compressed chunks?",
        (Case((2048, 2048), 2 * GIB // (2048 * 2048 * 2)),),
        (
            "bare",
            "omezarr-lz4",
            "omezarr-zstd",
        ),
    ),
    "pyramid": Scenario(
        "What do three resolution levels cost?",
        (Case((2048, 2048), 2 * GIB // (2048 * 2048 * 2)),),
        ("bare", "omezarr", "omezarr-3-levels"),
    ),
    "record": Scenario(
        "How fast is the complete way, from the demo camera's buffer to the disk?",
        (Case((2048, 2048), 2 * GIB // (2048 * 2048 * 2)),),
        (
            "bare",
            "camera",
            "record-bigtiff",
            "output-bigtiff",
            "record-omezarr",
            "output-omezarr",
        ),
    ),
    "video": Scenario(
        "How fast are videos, and how fast their encoders alone?",
        (Case((1024, 1024), 400, "uint8"),),
        (
            "video-h264",
            "pyav-h264",
            "video-mjpg",
            "pyav-mjpg",
            "opencv-mjpg",
            "video-ffv1",
            "pyav-ffv1",
            "opencv-ffv1",
        ),
    ),
}


def cases_of(scenario: Scenario, options: BenchOptions) -> tuple[Case, ...]:
    """Return the scenario's cases with the user's shape and size in place of its own."""
    return tuple(_adapted(case, options) for case in scenario.cases)


def _adapted(case: Case, options: BenchOptions) -> Case:
    shape = options.shape or case.shape
    if options.n_bytes is None:
        return replace(case, shape=shape)
    frame_bytes = replace(case, shape=shape).frame_bytes
    return replace(case, shape=shape, n_frames=max(1, options.n_bytes // frame_bytes))


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
        How many times each candidate writes; the table shows medians.
    only
        Names of candidates; empty means those of the scenario.
    shape
        Frame height and width instead of the scenario's.
    n_bytes
        Bytes of pixels a run instead of the scenario's.
    budget_s
        The camera stops after this many seconds, so that a slow peer is rated on what it took
        until then. Finishing is not part of it.
    warm_memory
        Let each candidate find memory that the machine really has, see `warm`.
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
