"""A recording's journal from the moment it reserves a name until the sidecar has taken over."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mda_writers.sinks.journal import header_line
from mda_writers.sinks.line_file import LineFile
from mda_writers.sinks.sidecar import journal_path, sidecar_path
from mda_writers.storage.failure import explained
from mda_writers.storage.lock import FileLock

if TYPE_CHECKING:
    from pathlib import Path


class JournalKeeper:
    """Makes the journal of the recording at `path`, and holds its lock.

    Parameters
    ----------
    path : Path
        The recording's main path; its journal must not exist.

    Raises
    ------
    WriteError
        If it cannot be made there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: FileLock | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.writer = LineFile(journal_path(path))
        except OSError as error:
            raise explained(error, path) from error
        # nobody shall take the recording for an interrupted one while this process lives; where
        # the file system has no locks, the header's process tells it less surely
        with suppress(OSError):
            self._lock = FileLock(journal_path(path))

    def begin(self, header: dict[str, Any]) -> None:
        """Write the first line."""
        self.writer.append(header_line(header))

    def unlock(self) -> None:
        """Let everybody see that the recording has ended."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def retire(self) -> None:
        """Remove the journal, if the sidecar is there to tell what it told."""
        self.unlock()  # Windows removes no file that is open
        if sidecar_path(self._path).exists():
            journal_path(self._path).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the journal of a recording that could not begin."""
        self.writer.close()
        self.unlock()
        journal_path(self._path).unlink(missing_ok=True)
