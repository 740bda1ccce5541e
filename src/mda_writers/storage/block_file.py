"""Files written in whole blocks, round the page cache where that works."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import sys
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mda_writers.errors import DiskFullError
from mda_writers.storage.disk_space import explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


BLOCK = max(4096, mmap.PAGESIZE)
"""Alignment of direct writes. Never less than a page: the edges of a write that is not aligned
go through the page cache, and a page must not hold bytes that a direct write puts beside it."""

DIRTY_BYTES = 64 << 20
"""On the ordinary path, bytes after which the system is made to write them out."""

MAX_OPEN = 128
"""Files kept open at once at most, each with two descriptors. A plan of a thousand positions has
a thousand files, and a process may often open no more than 256 (macOS) or 1024 (Linux)."""

FEW_OPEN = 16
"""Files that may always be open; only beyond is it asked what the process may open."""

_PROBE = ".direct-"

_open_files: OrderedDict[int, BlockFile] = OrderedDict()
_open_files_lock = threading.Lock()

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ESPIPE}

FEW = 64
"""Files that are synced one by one. Each waits for the file system's own journal, 4 ms; a whole
file system is synced at once, with what others are writing there."""

_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


# A file that is filled by offset, going round the page cache where the file system allows it.
#
# The page cache is what limits every writer that uses it: bytes are copied into it, the kernel
# copies them out again when it sees fit, and gigabytes of dirty pages stall the machine at the
# end. See ``docs/decisions/0001-direct-block-files.md`` for what was measured.


class BlockFile:
    """A file whose bytes are written by offset, in any order, from any thread.

    Parameters
    ----------
    path : Path
        Created if it does not exist; never truncated by opening it.
    direct : bool, optional
        Whether to go round the page cache. By default tried out on the file system at hand.
    """

    def __init__(self, path: Path, direct: bool | None = None) -> None:
        self.path = path
        self.direct = accepts_direct(path.parent) if direct is None else direct
        self._fds: tuple[int, int] | None = None
        self._identity: os.stat_result | None = None
        self._users = 0
        self._dirty = 0
        self._lock = threading.Lock()

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write `data` at `offset`; on return the system has it all.

        For a direct file, ``offset`` and the address of `data` must agree modulo `BLOCK`.
        """
        with self._opened() as (direct, ordinary):
            if not self.direct:
                _write_all(ordinary, offset, data, self._lock)
                self._write_out(ordinary, len(data))
                return
            head = min(-offset % BLOCK, len(data))
            body = (len(data) - head) // BLOCK * BLOCK
            _write_all(ordinary, offset, data[:head], self._lock)
            _write_all(direct, offset + head, data[head : head + body], self._lock)
            _write_all(ordinary, offset + head + body, data[head + body :], self._lock)

    def patch(self, offset: int, data: bytes | bytearray) -> None:
        """Write a few bytes of any alignment, such as a header, in one system call."""
        with self._opened() as (_, ordinary):
            _write_all(ordinary, offset, memoryview(data), self._lock)

    def claim(self, offset: int, nbytes: int) -> None:
        """Reserve a range beforehand, so that the disk cannot be full when its bytes come.

        Raises
        ------
        DiskFullError
            If there is no room.
        """
        with self._opened() as (_, ordinary):
            size = os.fstat(ordinary).st_size
            try:
                claimed = claim(ordinary, self.path, offset, nbytes)
            except DiskFullError:
                os.ftruncate(ordinary, size)  # let go of what there still was
                raise
            if not claimed:
                os.ftruncate(ordinary, max(size, offset + nbytes))

    def truncate(self, size: int) -> None:
        """Cut, or extend, the file to `size` bytes."""
        with self._opened() as (_, ordinary):
            os.ftruncate(ordinary, size)

    def sync(self) -> None:
        """Return when everything written so far would survive a power cut."""
        with self._opened() as (_, ordinary):
            _sync(ordinary)

    def close(self) -> None:
        """Let go of the file."""
        with _open_files_lock:
            _open_files.pop(id(self), None)
            self._close_fds()

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, int]]:
        """Keep the file open for the block: descriptors for direct and for ordinary writes."""
        with _open_files_lock:
            if self._fds is None:
                self._fds = self._open()
            fds = self._fds
            self._users += 1
            _open_files[id(self)] = self
            _open_files.move_to_end(id(self))
            _close_idle()
        try:
            yield fds
        finally:
            with _open_files_lock:
                self._users -= 1

    def _open(self) -> tuple[int, int]:
        """Open the file; again only if it is still the same one."""
        fds = _open(self.path, self.direct, create=self._identity is None)
        identity = os.fstat(fds[1])
        if self._identity is None:
            self._identity = identity
        elif not os.path.samestat(identity, self._identity):
            for fd in set(fds):
                os.close(fd)
            raise FileNotFoundError(
                errno.ENOENT, "another file has taken its place since", str(self.path)
            )
        return fds

    def _close_fds(self) -> None:
        if self._fds is not None:
            for fd in set(self._fds):
                os.close(fd)
            self._fds = None

    def _write_out(self, fd: int, nbytes: int) -> None:
        """Do not let dirty pages pile up: write them out, and let the cache forget them."""
        with self._lock:
            self._dirty += nbytes
            due = self._dirty >= DIRTY_BYTES
            if due:
                self._dirty = 0
        if due:
            _sync(fd)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def most_open(most: int) -> int:
    """Return how many files may be kept open: `most`, or an eighth of what the process may open.

    The rest is left to the other writers, to readers, and to the program itself.
    """
    if sys.platform == "win32":
        return most
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if limit == resource.RLIM_INFINITY else max(4, min(most, limit // 8))


def accepts_direct(folder: Path) -> bool:
    """Return whether files in `folder` can be written round the page cache, by trying it."""
    if sys.platform == "darwin":
        return True
    if not hasattr(os, "O_DIRECT"):
        return False
    return _try_direct(folder, folder.stat().st_dev)


@lru_cache(maxsize=64)
def _try_direct(folder: Path, device: int) -> bool:
    probe = folder / f"{_PROBE}{platform.node()}-{os.getpid()}-{threading.get_ident()}.tmp"
    block = mmap.mmap(-1, BLOCK)
    try:
        fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
        try:
            probe.unlink()  # at once: a killed process leaves nothing behind
            return os.pwrite(fd, block, 0) == BLOCK
        finally:
            os.close(fd)
    except OSError:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
        return False
    finally:
        block.close()


def is_probe(name: str) -> bool:
    """Return whether a file was made by `accepts_direct`, and should have gone at once."""
    return name.startswith(_PROBE) and name.endswith(".tmp")


def is_abandoned_probe(name: str) -> bool:
    """Return whether a file was made by `accepts_direct` in a process of this machine that died."""
    start = f"{_PROBE}{platform.node()}-"
    pid = name.removeprefix(start).partition("-")[0]
    return name.startswith(start) and pid.isdigit() and not psutil.pid_exists(int(pid))


def _open(path: Path, direct: bool, create: bool = True) -> tuple[int, int]:
    """Return descriptors for direct and for ordinary writes; one and the same where possible."""
    flags = os.O_RDWR | os.O_CREAT * create | getattr(os, "O_BINARY", 0)
    ordinary = os.open(path, flags, 0o666)
    if not direct:
        return ordinary, ordinary
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(ordinary, fcntl.F_NOCACHE, 1)
        return ordinary, ordinary
    try:
        return os.open(path, flags | os.O_DIRECT, 0o666), ordinary
    except OSError:
        os.close(ordinary)
        raise


def _close_idle() -> None:
    """Close the files that were not used for longest, while too many are open."""
    if len(_open_files) <= FEW_OPEN:
        return
    excess = len(_open_files) - most_open(MAX_OPEN)
    if excess <= 0:
        return
    idle = [key for key, file in _open_files.items() if file._users == 0]
    for key in idle[:excess]:
        _open_files.pop(key)._close_fds()


def _write_all(fd: int, offset: int, data: memoryview, lock: threading.Lock) -> None:
    while data:
        count = _write_some(fd, offset, data, lock)
        offset += count
        data = data[count:]


def _write_some(fd: int, offset: int, data: memoryview, lock: threading.Lock) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    # Windows has no pwrite: move and write as one step
    with lock:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def _sync(fd: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


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


class Unsynced:
    """Files that were written since the last `sync`, and names that came with them."""

    def __init__(self) -> None:
        self._files: dict[Path, None] = {}
        self._safe: set[Path] = set()

    def note(self, path: Path, *, replaced: bool = True) -> None:
        """Note a file that was written; `replaced` where it took another's place, or may have."""
        self._files[path] = None
        if replaced:
            self._safe.discard(path)

    def sync(self) -> None:
        """Return when all of them would survive a power cut, and be found again."""
        files = list(self._files)
        folders = self._folders(files)
        _sync_all(files, folders)
        self._files.clear()
        self._safe.update(files, folders)

    def _folders(self, files: list[Path]) -> dict[Path, None]:
        """Return the folders with names that may be new: those of the folders above as well."""
        found: dict[Path, None] = {}
        for path in files:
            while path not in self._safe and path.parent not in found and not path.is_mount():
                path = path.parent
                found[path] = None
        return found


def sync_tree(folder: Path) -> None:
    """Return when everything in `folder`, and its name, would survive a power cut."""
    inside = list(folder.rglob("*"))
    folders = [folder.parent, folder, *(path for path in inside if path.is_dir())]
    _sync_all([path for path in inside if not path.is_dir()], folders)


def sync_file(path: Path) -> None:
    """Return when the bytes of a file would survive a power cut, whoever wrote them."""
    _file_system_sync(path, os.O_RDWR | getattr(os, "O_BINARY", 0))


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` would survive a power cut, where a system can do that."""
    if sys.platform == "win32":
        return  # it writes them down by itself
    with suppress(PermissionError):  # one that may not be listed
        _file_system_sync(folder, os.O_RDONLY)


def sync_above(path: Path) -> None:
    """Return when the names of all folders above `path` would survive a power cut."""
    for folder in path.parents:
        sync_folder(folder)
        if folder.is_mount():
            return


def sync_file_system(folder: Path) -> bool:
    """Make everything on the file system of `folder` survive a power cut; False where none can."""
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


def _sync_all(files: Iterable[Path], folders: Iterable[Path]) -> None:
    files, folders = list(files), list(folders)
    if len(files) + len(folders) > FEW and sync_file_system(folders[0]):
        return
    for file in files:
        with suppress(FileNotFoundError):  # it was moved away meanwhile, by its owner
            sync_file(file)
    for folder in folders:
        with suppress(FileNotFoundError):
            sync_folder(folder)


def _file_system_sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)
