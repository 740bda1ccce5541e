"""Writes the journal while frames come."""

from __future__ import annotations

import os
from array import array
from collections import deque
from contextlib import suppress
from itertools import takewhile
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import xxhash

from mda_writers.errors import WriteError
from mda_writers.model.encode import frame_metadata_json, to_json
from mda_writers.recording.files import journal_path, sidecar_path
from mda_writers.recording.journal import (
    LOAD_START,
    MOST_SAMPLES,
    Journal,
    frame_line,
    header_line,
    image_line,
    sealed,
)
from mda_writers.storage.block_file import sync_folder
from mda_writers.storage.disk_space import explained, free_bytes
from mda_writers.storage.files import PATIENCE_S, FileLock, LineFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mda_writers.formats.base import FrameArray
    from mda_writers.model.frame import PlacedFrame
    from mda_writers.model.layout import ImageLayout
    from mda_writers.storage.write_pool import WritePool


LINES_A_WRITE = 64
"""Lines that are gathered while frames come fast; a system call a line would cost 30 000 a
second. With nothing to do the lines leave at once (`flush`)."""

EVERY_S = 0.25
"""Time between two samples at first."""


class FrameTable:
    """Writes the journal of a recording.

    Parameters
    ----------
    journal : LineFile
        Where the lines go.
    arrays : mapping
        Key → array, to ask where in its file a frame lies.
    pool : WritePool or None
        Tells what has landed; None when a frame is on disk as soon as its array has taken it.
    sync_ms : float or None
        Every so often, everything is made to survive a power cut before its lines are written.
    """

    def __init__(
        self,
        journal: LineFile,
        arrays: Mapping[str, FrameArray],
        pool: WritePool | None,
        sync_ms: float | None = None,
    ) -> None:
        self._journal = journal
        self._arrays = arrays
        self._pool = pool
        self._sync_s = None if sync_ms is None else sync_ms / 1000
        self._synced = monotonic()
        self._waiting: deque[tuple[int, bool, int, bytes]] = deque()
        self._since_write = 0
        self._keys: dict[str, bytes] = {}
        self._last_time: float | None = None
        self.intervals_s = array("f")
        self.frames_written = 0
        self.frames_left_out = 0
        self.journalled = 0
        self.bytes_written = 0

    def open(self) -> None:
        """Nothing to do: the header is there already."""

    def announce(self, image: ImageLayout, planes: int) -> None:
        """Say that an image was laid out, with room for `planes` planes."""
        self._journal.append(image_line(image, planes))

    def write(self, placed: PlacedFrame) -> None:
        """Prepare the line of a frame; it is written when the frame has landed.

        A frame that is not kept has its line in the order of arrival, too.
        """
        staged = self._pool.staged() if self._pool else 0
        line = frame_line(
            self._key_json(placed.place.key), _metadata(placed), self._additions(placed)
        )
        nbytes = placed.pixels.nbytes if placed.saved else 0
        self._waiting.append((staged, placed.saved, nbytes, line))
        self._note_time(placed.frame.monotonic_s)
        self._since_write += 1
        if self._since_write >= LINES_A_WRITE:
            self._write_landed()

    def flush(self) -> bool:
        """Write the lines of what has landed; True when no line waits any more."""
        self._write_landed()
        return not self._waiting

    def close(self) -> None:
        """Write the lines of all that has landed, and close the journal.

        The arrays are closed before: what has not landed by now never will.
        """
        try:
            if self._waiting:
                self._write_up_to(self._landed())
            self._journal.sync()
        finally:
            self._journal.close()

    def _write_landed(self) -> None:
        self._since_write = 0
        if not self._waiting or not self._is_time():
            return
        if self._pool is not None and self._sync_s is not None:
            self._pool.drain()
        self._write_up_to(self._landed())

    def _write_up_to(self, landed: int) -> None:
        due = list(takewhile(lambda frame: frame[0] <= landed, self._waiting))
        if not due:
            return
        self._journal.append(b"".join(line for _, _, _, line in due))
        self.journalled = due[-1][0]
        for _, saved, nbytes, _ in due:
            self._waiting.popleft()
            self.bytes_written += nbytes
            self.frames_written += saved
            self.frames_left_out += not saved
        if self._sync_s is not None:
            self._journal.sync()

    def _is_time(self) -> bool:
        """Whether lines may be written now; those of synced recordings, every so often."""
        return self._sync_s is None or monotonic() - self._synced >= self._sync_s

    def _landed(self) -> int:
        """Return the pool's number up to which frames are on disk, safely so if that was asked."""
        if self._pool is None:
            return 0
        if self._sync_s is None:
            return self._pool.landed()
        landed = self._pool.secure()
        self._synced = monotonic()
        return landed

    def _additions(self, placed: PlacedFrame) -> bytes:
        entry: dict[str, Any] = {
            "number": placed.number,
            "index": {str(axis): i for axis, i in placed.frame.index.items()},
            "place": placed.place.index,
            **(self._on_disk(placed) if placed.saved else {"saved": False}),
            "unix_time_s": placed.frame.unix_time_s,
            "monotonic_s": placed.frame.monotonic_s,
        }
        return to_json(entry)

    def _on_disk(self, placed: PlacedFrame) -> dict[str, Any]:
        """Return where the pixels lie, and their checksum."""
        where = getattr(self._arrays.get(placed.place.key), "where", None)
        return {
            **(where(placed.place.index) if where else {}),
            "xxh3_64": placed.frame.xxh3_64 or xxhash.xxh3_64_hexdigest(placed.pixels.data),
        }

    def _key_json(self, key: str) -> bytes:
        if key not in self._keys:
            self._keys[key] = to_json(key)
        return self._keys[key]

    def _note_time(self, now: float) -> None:
        if self._last_time is not None:
            self.intervals_s.append(now - self._last_time)
        self._last_time = now


def _metadata(placed: PlacedFrame) -> bytes:
    metadata = placed.frame.metadata
    return metadata if isinstance(metadata, bytes) else frame_metadata_json(metadata)


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


# How full the queue and the disk were while a recording ran: a line in the journal now and then.
#
# The lines stay few however long a recording is: after every `MOST_SAMPLES` the next come half as
# often, and a reader (`taken_in`) lets go of every second one before.


class LoadLog:
    """Notes the load of a recording in its journal.

    Parameters
    ----------
    journal : LineFile
        Where the lines go.
    folder : Path
        Where the recording goes, to ask how much is free there.
    queued_bytes, written_bytes : callable
        Tell the bytes of frames that wait in memory, and of those that are on disk.
    """

    def __init__(
        self,
        journal: LineFile,
        folder: Path,
        queued_bytes: Callable[[], int],
        written_bytes: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._folder = folder
        self._queued_bytes = queued_bytes
        self._written_bytes = written_bytes
        self._every_s = EVERY_S
        self._due = 0.0
        self._kept = 0

    def open(self) -> None:
        """Nothing to do before the first frame."""

    def write(self, placed: PlacedFrame) -> None:
        """Take a sample when one is due."""
        now = perf_counter()
        if now < self._due:
            return
        self._journal.append(sealed(LOAD_START + to_json(self._sample(now)) + b"}") + b"\n")
        self._kept += 1
        if self._kept == MOST_SAMPLES:
            self._kept = MOST_SAMPLES // 2
            self._every_s *= 2
        self._due = now + self._every_s

    def flush(self) -> bool:
        """Nothing is held back here."""
        return True

    def close(self) -> None:
        """Nothing to close: the journal is the frame table's."""

    def _sample(self, now: float) -> dict[str, Any]:
        return {
            "monotonic_s": now,
            "queued_bytes": self._queued_bytes(),
            "written_bytes": self._written_bytes(),
            "free_bytes": free_bytes(self._folder),
        }
