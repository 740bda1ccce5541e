"""What a run costs besides time: processor seconds, and the peak of memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""proc(5): writing 5 to clear_refs sets the peak of resident memory back to what it is now."""


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
