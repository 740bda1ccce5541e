"""A recording's journal from the moment it reserves a name until the sidecar has taken over."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mda_writers.errors import WriteError
from mda_writers.sinks.journal import Journal, header_line
from mda_writers.sinks.line_file import LineFile
from mda_writers.sinks.sidecar import journal_path, sidecar_path
from mda_writers.storage.failure import explained
from mda_writers.storage.file_system import sync_folder
from mda_writers.storage.lock import PATIENCE_S, FileLock

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
            self._lock = FileLock(journal_path(path), PATIENCE_S)

    def begin(self, header: dict[str, Any]) -> None:
        """Write the first line."""
        self.writer.append(header_line(header))

    def check(self, set_id: str) -> None:
        """See that the journal is still the one that this recording has written.

        Raises
        ------
        WriteError
            If it was removed, or replaced by that of another recording.
        """
        path = journal_path(self._path)
        if not self._is_ours() or Journal.read(path).header.get("set_id") != set_id:
            raise WriteError(
                f"{path}: was removed, or replaced by that of another recording, while this one "
                "was written. Nothing there was changed. The pixels of this recording are in its "
                "files, as far as those are still there."
            )

    def _is_ours(self) -> bool:
        with suppress(OSError):
            return os.path.samestat(journal_path(self._path).stat(), self.writer.identity)
        return False

    def unlock(self) -> None:
        """Let everybody see that the recording has ended."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def retire(self) -> None:
        """Remove the journal, if the sidecar is there to tell what it told."""
        ours = self._is_ours()
        self.unlock()  # Windows removes no file that is open
        if ours and sidecar_path(self._path).exists():
            journal_path(self._path).unlink(missing_ok=True)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove the journal of a recording that could not begin."""
        ours = self._is_ours()
        self.writer.close()
        self.unlock()
        if not ours:
            return
        with suppress(OSError):  # why it could not begin is what is raised
            journal_path(self._path).unlink(missing_ok=True)
