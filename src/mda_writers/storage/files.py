"""Small files: replaced as a whole, locked, appended to, hashed."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil
import xxhash

from mda_writers.storage.block_file import sync_above, sync_folder
from mda_writers.storage.disk_space import explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


FAR_BYTE = 1 << 62
"""On Windows, the byte that is locked. A lock there keeps others from reading the bytes it covers;
no file has this one."""

PATIENCE_S = 0.2
"""How long those who mean to write try to get a lock that somebody may only be looking at."""

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}

READ_BYTES = 4 << 20
"""Bytes in memory while a file is read."""


@contextmanager
def replacing(path: Path, *, safely: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when the block ends well.

    When the block raises, `path` stays as it was.

    Parameters
    ----------
    path : Path
        The file; need not exist.
    safely : bool
        Whether the new content is on the disk before it gets its name, so that even a power cut
        leaves the old file or the new one; on return, the new one.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stream:
            yield stream
            if safely:
                stream.flush()
                os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is raised
            beside.unlink(missing_ok=True)
        raise
    if safely:
        sync_folder(path.parent)


def replace_bytes(path: Path, content: bytes) -> None:
    """Make `content` the content of `path`, all or nothing."""
    with replacing(path) as stream:
        stream.write(content)


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


class LineFile:
    """Appends lines to a file of its own.

    Each call is one system call: a killed process tears no line but the last.

    Parameters
    ----------
    path : Path
        The file, which must not exist: making one is also how names are reserved.

    Attributes
    ----------
    identity : os.stat_result
        Tells the file from another one that took its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(path, flags, 0o666)
        self._size = 0
        self.identity = os.fstat(self._fd)
        self._torn = False
        self._named = False

    def append(self, lines: bytes) -> None:
        """Append whole lines, each with its newline; all of them, or none."""
        view = memoryview(lines)
        try:
            self._cut_torn()
            self._torn = True
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            with suppress(OSError):
                self._cut_torn()
            raise explained(error, self.path, len(lines)) from error
        self._torn = False
        self._size += len(lines)

    def sync(self) -> None:
        """Return when all lines would survive a power cut.

        Raises
        ------
        WriteError
            If the disk says that they would not.
        """
        try:
            os.fsync(self._fd)
            if not self._named:
                sync_above(self.path)
                self._named = True
        except OSError as error:
            raise explained(error, self.path) from error

    def _cut_torn(self) -> None:
        """Cut off half a line: it would swallow the one that is appended next."""
        if self._torn:
            os.ftruncate(self._fd, self._size)
            self._torn = False

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def content_hash(path: Path) -> tuple[int, str]:
    r"""Return the size in bytes and the hash (xxh3, 128 bits, in hexadecimal).

    A folder's size is that of its files, and its hash that of one line per file, in the order of
    their names: ``<relative path>\0<size>\0<hash>\n``.
    """
    if not path.is_dir():
        return _file_hash(path)
    whole, total = xxhash.xxh3_128(), 0
    for file in files_in(path):
        size, digest = _file_hash(file)
        name = file.relative_to(path).as_posix()
        whole.update(f"{name}\0{size}\0{digest}\n".encode(errors="surrogateescape"))
        total += size
    return total, whole.hexdigest()


def files_in(folder: Path) -> Iterator[Path]:
    """Return all files under `folder`, in the order of their names, a folder at a time."""
    with os.scandir(folder) as entries:
        in_order = sorted(entries, key=lambda entry: entry.name)
    for entry in in_order:
        if entry.is_dir(follow_symlinks=False):
            yield from files_in(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _file_hash(path: Path) -> tuple[int, str]:
    whole, size = xxhash.xxh3_128(), 0
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            whole.update(memoryview(buffer)[:count])
            size += count
    return size, whole.hexdigest()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks_to_parent)
