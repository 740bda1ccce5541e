"""What a power cut takes back: names in folders, and many small files at once."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FEW = 64
"""Files that are synced one by one. Each waits for the file system's own journal, 4 ms; a whole
file system is synced at once, with what others are writing there."""

_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


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
    _sync(path, os.O_RDWR | getattr(os, "O_BINARY", 0))


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` would survive a power cut, where a system can do that."""
    if sys.platform == "win32":
        return  # it writes them down by itself
    with suppress(PermissionError):  # one that may not be listed
        _sync(folder, os.O_RDONLY)


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


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)
