"""Room on a disk: how much there is, and how to claim it before it is needed."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from mda_writers.errors import DiskFullError, WriteError

if TYPE_CHECKING:
    from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ESPIPE}


def free_bytes(path: Path) -> int:
    """Return the bytes that may still be written where `path` is, or will be."""
    folder = path
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def human_bytes(count: float) -> str:
    """Return a count of bytes as people write it: ``"1.2 GB"`` (powers of ten)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def claim(fd: int, path: Path, offset: int, nbytes: int) -> bool:
    """Reserve disk space for a range of a file without writing zeros.

    Returns False where the file system cannot; the file's length is then untouched. glibc's
    ``posix_fallocate`` would fall back to writing every block there, which is as slow as the
    recording itself: the system call is made directly.

    Raises
    ------
    DiskFullError
        If there is no room for it.
    """
    fallocate = _fallocate()
    if fallocate is None or nbytes <= 0:
        return False
    if fallocate(fd, 0, offset, nbytes) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise explained(OSError(code, os.strerror(code)), path, nbytes)


def explained(error: OSError, path: Path, nbytes: int = 0) -> WriteError:
    """Return the system's error as one of ours: what, where, how much, and the way out."""
    if error.errno not in _NO_ROOM:
        return WriteError(
            f"{path}: could not be written ({error.strerror or error}). Frames written before are "
            "kept; check the disk, its connection and your permissions."
        )
    needed = f", {human_bytes(nbytes)} needed" if nbytes else ""
    limit = " (a file size limit of the process or file system)" * (error.errno == errno.EFBIG)
    return DiskFullError(
        f"{path}: {human_bytes(free_bytes(path))} free{needed}{limit}. Frames written before are "
        "kept; free some space or record to another disk."
    )


@cache
def _fallocate() -> Any:
    """Return Linux's ``fallocate(2)``, or None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    return function
