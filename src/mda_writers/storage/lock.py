"""Who is writing: a lock that the system itself lets go of when its process dies."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FAR_BYTE = 1 << 62
"""On Windows, the byte that is locked. A lock there keeps others from reading the bytes it covers;
no file has this one."""

PATIENCE_S = 0.2
"""How long those who mean to write try to get a lock that somebody may only be looking at."""

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


class FileLock:
    """An exclusive lock on an existing file, held until `release` or the death of the process.

    A process id in a file would prove little: ids are used again, and another machine has its
    own. A lock needs no cleaning up and holds over a network, too, where the server can lock.

    Parameters
    ----------
    path : Path
        The file. Its bytes may be read and written by anybody all the same.
    patience_s : float
        How long to try: whoever only looks whether it is held has it for a moment.

    Raises
    ------
    BlockingIOError
        If another holds the lock, be it in this process.
    OSError
        If the file cannot be opened, or its file system has no locks.
    """

    def __init__(self, path: Path, patience_s: float = 0.0) -> None:
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        deadline = time.monotonic() + patience_s
        while True:
            try:
                _lock(self._fd)
                break
            except OSError as error:
                if error.errno in _HELD and time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                self._close()
                if error.errno in _HELD:
                    raise BlockingIOError(error.errno, error.strerror, str(path)) from error
                raise
        _locks.add(self)

    def release(self) -> None:
        """Let go of the lock, and of the file."""
        if self._fd >= 0:
            with suppress(OSError):
                _unlock(self._fd)  # a child of a foreign fork() may have the file open, too
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _leave_locks_to_parent() -> None:
    """After a fork: a lock is held as long as any process has its file open."""
    for lock in list(_locks):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks_to_parent)


def this_process() -> dict[str, Any]:
    """Return what names this process: ids are used again, so its start belongs to it."""
    started = psutil.Process().create_time()
    return {"pid": os.getpid(), "started_unix_s": started, "host": platform.node()}


def is_alive(process: Mapping[str, Any]) -> bool:
    """Return whether `process` (`this_process` of another time) is seen to run on this machine."""
    try:
        started = psutil.Process(int(process["pid"])).create_time()
        same = abs(started - process["started_unix_s"]) < 2  # a clock that was set moves it
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
    return same and process.get("host") == platform.node()


if sys.platform == "win32":

    def _lock(fd: int) -> None:
        import msvcrt

        os.lseek(fd, FAR_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _unlock(fd: int) -> None:
        import msvcrt

        os.lseek(fd, FAR_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:

    def _lock(fd: int) -> None:
        import fcntl

        # flock, not lockf: that one is let go of when any descriptor of the file is closed
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)
