"""Thousands of small files at once: one call that makes all of them survive a power cut."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_file_system(folder: Path) -> bool:
    """Make everything on the file system of `folder` survive a power cut; False where none can.

    A file at a time, each waits for the file system's own journal: 4 ms for each of ten thousand.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        fd = os.open(folder, os.O_RDONLY)
    except (OSError, AttributeError):
        return False
    try:
        return int(syncfs(fd)) == 0
    finally:
        os.close(fd)
