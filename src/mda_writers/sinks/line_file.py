"""A file of lines that only grows: each line is in it as a whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from mda_writers.storage.failure import explained
from mda_writers.storage.file_system import sync_above

if TYPE_CHECKING:
    from pathlib import Path


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
