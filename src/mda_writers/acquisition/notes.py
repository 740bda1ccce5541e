"""What people note during a session: with its time, and on disk before the call returns."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from mda_writers.acquisition.csv_rows import csv_line
from mda_writers.acquisition.moment import Moment
from mda_writers.sinks.line_file import LineFile
from mda_writers.storage.lock import FileLock

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ("time", "unix_time_s", "monotonic_s", "note")


class Notes:
    """A CSV file of notes, held by one session as long as it goes on.

    Parameters
    ----------
    path : Path
        The file. It must not exist: it is also what reserves a session's names.

    Raises
    ------
    FileExistsError
        If it does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LineFile(path)
        self._lock = threading.Lock()
        self._held: FileLock | None = None
        # where the file system has no locks, the manifest's process tells it less surely
        with suppress(OSError):
            self._held = FileLock(path)
        self._file.append(csv_line(COLUMNS))

    def add(self, text: str) -> Moment:
        """Write a note; it would survive a power cut on return.

        Raises
        ------
        WriteError
            If it could not be written.
        """
        now = Moment.now()
        with self._lock:
            self._file.append(csv_line([now.time, now.unix_time_s, now.monotonic_s, text]))
            self._file.sync()
        return now

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        if self._held is not None:
            self._held.release()
            self._held = None
