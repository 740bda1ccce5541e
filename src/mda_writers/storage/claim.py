"""Room that is claimed on a disk before it is needed."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from mda_writers.storage.failure import explained

if TYPE_CHECKING:
    from pathlib import Path

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ESPIPE}


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
