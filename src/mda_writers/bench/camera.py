"""A camera that only hands out frames made before, and notes when they are taken."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

POOL_BYTES = 64 * 2**20
MAX_POOL = 64
MIN_POOL = 4
FULL_WELL = 4095
"""12 bits, as most sCMOS cameras deliver them in uint16."""


class Camera:
    """Hands out `n` frames, and notes when each one was asked for and when it was taken.

    A candidate loops over the camera. From the moment a frame is given out until the next one
    is asked for, the candidate is busy with it: that is the hand-over of the frame, measured
    without a line of measuring code in any candidate.

    Parameters
    ----------
    pool
        Frames to cycle through.
    n
        How many frames the acquisition plans.
    budget_s
        Seconds after which the camera stops early.
    """

    def __init__(self, pool: list[NDArray[Any]], n: int, budget_s: float) -> None:
        self.pool = pool
        self.n = n
        self.n_taken = 0
        # Claimed beforehand, so that the clock's own memory is not taken for a writer's.
        self._given_ns = array("q", bytes(8 * n))
        self._taken_ns = array("q", bytes(8 * n))
        self._budget_ns = int(budget_s * 1e9)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        given, taken, pool = self._given_ns, self._taken_ns, self.pool
        period, deadline = len(pool), perf_counter_ns() + self._budget_ns
        for i in range(self.n):
            given[i] = perf_counter_ns()
            yield pool[i % period]
            taken[i] = now = perf_counter_ns()
            self.n_taken = i + 1
            if now > deadline:
                return

    def __len__(self) -> int:
        return self.n

    def frame(self, index: int) -> NDArray[Any]:
        """Return the frame that belongs at `index`."""
        return self.pool[index % len(self.pool)]

    def handover_ns(self) -> NDArray[np.int64]:
        """Return how long each frame took from being given out to the next being asked for."""
        n = self.n_taken
        return np.subtract(self._taken_ns[:n], self._given_ns[:n], dtype=np.int64)

    def last_taken_ns(self) -> int:
        """Return the `perf_counter_ns` at which the last frame had been taken."""
        return self._taken_ns[self.n_taken - 1]


def make_pool(shape: tuple[int, int], dtype: str = "uint16") -> list[NDArray[Any]]:
    """Return camera-like frames: Poisson noise on a smooth background, 12 bit in uint16.

    In uint8 they are for videos, whose encoders look from one frame into the next: eight that
    were each drawn, a quarter as bright.

    Constant frames would flatter compression and, on some disks, writing itself. Only one frame
    is drawn, the others are its cyclic shifts: a large one takes 0.2 s to draw, and no
    compressor looks from one frame into the next.
    """
    if dtype == "uint8":
        return _independent(shape)
    frame_bytes = shape[0] * shape[1] * 2
    n = min(MAX_POOL, max(MIN_POOL, POOL_BYTES // frame_bytes))
    noise = np.random.default_rng(seed=0).poisson(_background(shape))
    first = np.minimum(noise, FULL_WELL).astype(np.uint16)
    return [np.roll(first, (7 * i, 3 * i), axis=(0, 1)) for i in range(n)]


def _independent(shape: tuple[int, int]) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(seed=0)
    drawn = (generator.poisson(_background(shape)) for _ in range(8))
    return [np.minimum(noise // 4, 255).astype(np.uint8) for noise in drawn]


def _background(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return an uneven illumination between 100 and 400 photons a pixel."""
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return np.asarray(100 + 300 * np.exp(-(x**2 + y**2)))


def frame_metadata(index: int) -> dict[str, Any]:
    """Return a `FrameMetaV1` of a hardware-sequenced frame, without its event.

    The event is left out on purpose: it would cost peers that dump all of it more than it costs
    us, who dump it without its sequence.
    """
    return {
        "format": "frame-dict",
        "version": "1.0",
        "runner_time_ms": 2.0 * index,
        "camera_device": "Camera",
        "property_values": (),
        "exposure_ms": 2.0,
        "pixel_size_um": 0.65,
        "position": {"x": 100.0, "y": -20.0, "z": 3.5},
        "hardware_triggered": True,
        "images_remaining_in_buffer": 0,
        "camera_metadata": {
            "Binning": "1",
            "Camera": "Camera",
            "ElapsedTime-ms": f"{2.0 * index:.2f}",
            "ImageNumber": str(index),
            "PixelType": "GRAY16",
        },
    }


def ome_metadata(index: int) -> dict[str, float]:
    """Return the part of it that pymmcore-plus's own sink passes on to ome-writers."""
    return {
        "delta_t": 0.002 * index,
        "exposure_time": 0.002,
        "position_x": 100.0,
        "position_y": -20.0,
        "position_z": 3.5,
    }
