"""Says on which machine, disk, and libraries a benchmark ran."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

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
    """Return file system and device of the mount that `out` lies on."""
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
