"""A file of lines that only grows: each line is in it as a whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from mda_writers.storage.failure import explained

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

    def append(self, lines: bytes) -> None:
        """Append whole lines, each with its newline; all of them, or none."""
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            # half a line would swallow the one that is appended next
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise explained(error, self.path, len(lines)) from error
        self._size += len(lines)

    def sync(self) -> None:
        """Return when all lines would survive a power cut."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
