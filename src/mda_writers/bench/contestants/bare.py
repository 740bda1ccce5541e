"""The yardstick: what the disk takes from one thread that goes round the page cache.

The file's space is claimed beforehand, frames are copied into one aligned buffer, and each full
buffer is written before the next frame is copied. Frames that do not fill whole blocks lie
back to back, so the same bytes reach the disk in every scenario.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job

BUFFER_BYTES = 8 * 2**20
"""One frame of 2048 x 2048; smaller frames are gathered, or the disk would wait for each."""

FILE = "bare.raw"


class BareLoop(Contestant):
    """An aligned `O_DIRECT` loop, one write at a time."""

    name = "bare"
    label = "bare O_DIRECT loop"

    def available(self) -> str | None:
        """Return why not: only Linux has `O_DIRECT`."""
        return None if hasattr(os, "O_DIRECT") else "this system has no O_DIRECT"

    def run(self, job: Job) -> None:
        """Write the frames back to back."""
        total = job.n * job.frame_bytes
        descriptor = os.open(job.path / FILE, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, total + BUFFER_BYTES)
            n_bytes = _write_all(descriptor, job)
            os.ftruncate(descriptor, n_bytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path, index: int) -> NDArray[Any] | None:
        """Return nothing: a raw file has no shape."""
        return None


def _write_all(descriptor: int, job: Job) -> int:
    """Stream the frames through one aligned buffer; return their bytes."""
    buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))  # anonymous maps begin on a page
    target = np.frombuffer(buffer, np.uint8)
    offset = filled = 0
    for frame in job.frames:
        source = frame.reshape(-1).view(np.uint8)
        while source.size:
            part = min(source.size, BUFFER_BYTES - filled)
            target[filled : filled + part] = source[:part]
            source, filled = source[part:], filled + part
            if filled == BUFFER_BYTES:
                offset += os.pwrite(descriptor, buffer, offset)
                filled = 0
    # The rest is written with whatever fills its last buffer, and cut off by the caller.
    if filled:
        os.pwrite(descriptor, buffer, offset)
    return offset + filled
