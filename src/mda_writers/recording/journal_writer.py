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
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout
    from mda_writers.storage.write_pool import WritePool


LINES_A_WRITE = 64
"""Lines that are gathered while frames come fast; a system call per line would cost 30 000 per
second. With nothing to do the lines leave at once (`flush`)."""

EVERY_S = 0.25
"""Time between two samples of the load at first. After every `MOST_SAMPLES` the next come half as
often, and a reader drops every second one before: they stay few however long a recording is."""


class JournalWriter:
    """Makes the journal of the recording at `path`, holds its lock, and writes its lines.

    The line of a frame is written when the frame has landed. Raises WriteError if the journal
    cannot be made, or exists.
    """

    pool: WritePool
    """Reports what has landed; set before the first frame."""

    def __init__(self, path: Path, sync_ms: float | None = None) -> None:
        self._path = path
        self._sync_s = None if sync_ms is None else sync_ms / 1000
        self._synced = monotonic()
        self._lock: FileLock | None = None
        # number in the pool, whether it is kept, bytes of pixels, line
        self._waiting: deque[tuple[int, bool, int, bytes]] = deque()
        self._since_write = 0
        self._keys: dict[str, bytes] = {}
        self._last_time: float | None = None
        self._load_every_s = EVERY_S
        self.load_due = 0.0
        self._samples = 0
        self.intervals_s = array("f")
        self.frames_written = 0
        self.frames_left_out = 0
        self.bytes_written = 0
        # the pool's number up to which frames have their lines
        self.journalled = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = LineFile(journal_path(path))
        except OSError as error:
            raise explained(error, path) from error
        # nobody shall take the recording for an interrupted one while this process lives; where
        # the file system has no locks, the header's process says it less surely
        with suppress(OSError):
            self._lock = FileLock(journal_path(path), PATIENCE_S)

    def begin(self, header: dict[str, Any]) -> None:
        """Write the first line."""
        self._file.append(header_line(header))

    # ------------------------------------------------------------ the writing thread

    def announce(self, image: ImageLayout, planes: int) -> None:
        """Write down that an image was laid out, with room for `planes` planes."""
        self._file.append(image_line(image, planes))

    def add(
        self,
        number: int,
        key: str,
        place: tuple[int, ...],
        frame: Frame,
        pixels: np.ndarray,
        where: Mapping[str, Any] | None,
    ) -> None:
        """Prepare the line of a frame; it is written when the frame has landed.

        A frame that is not kept has its line in the order of arrival, too, and no `where`.
        """
        kept = where is not None
        ours: dict[str, Any] = {
            "number": number,
            "index": {str(axis): i for axis, i in frame.index.items()},
            "place": place,
        }
        if where is None:
            ours["saved"] = False
        else:
            ours.update(where)
            ours["xxh3_64"] = frame.xxh3_64 or xxhash.xxh3_64_hexdigest(pixels.data)
        ours["unix_time_s"] = frame.unix_time_s
        ours["monotonic_s"] = frame.monotonic_s
        metadata = frame.metadata
        if not isinstance(metadata, bytes):
            metadata = frame_metadata_json(metadata)
        key_json = self._keys.get(key)
        if key_json is None:
            key_json = self._keys[key] = to_json(key)
        line = frame_line(key_json, metadata, to_json(ours))
        self._waiting.append((self.pool.staged(), kept, pixels.nbytes if kept else 0, line))
        if self._last_time is not None:
            self.intervals_s.append(frame.monotonic_s - self._last_time)
        self._last_time = frame.monotonic_s
        self._since_write += 1
        if self._since_write >= LINES_A_WRITE:
            self._write_landed()

    def note_load(self, queued_bytes: int) -> None:
        """Write down how full queue and disk are, when that is due."""
        now = perf_counter()
        if now < self.load_due:
            return
        sample = {
            "monotonic_s": now,
            "queued_bytes": queued_bytes,
            "written_bytes": self.bytes_written,
            "free_bytes": free_bytes(self._path.parent),
        }
        self._file.append(sealed(LOAD_START + to_json(sample) + b"}") + b"\n")
        self._samples += 1
        if self._samples == MOST_SAMPLES:
            self._samples = MOST_SAMPLES // 2
            self._load_every_s *= 2
        self.load_due = now + self._load_every_s

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
            self._file.sync()
        finally:
            self._file.close()

    def _write_landed(self) -> None:
        self._since_write = 0
        if not self._waiting:
            return
        if self._sync_s is not None:
            if monotonic() - self._synced < self._sync_s:
                return
            self.pool.drain()
        self._write_up_to(self._landed())

    def _landed(self) -> int:
        """Return the pool's number up to which frames are on disk, safely so if that was asked."""
        if self._sync_s is None:
            return self.pool.landed()
        landed = self.pool.secure()
        self._synced = monotonic()
        return landed

    def _write_up_to(self, landed: int) -> None:
        due = list(takewhile(lambda frame: frame[0] <= landed, self._waiting))
        if not due:
            return
        self._file.append(b"".join(line for _, _, _, line in due))
        self.journalled = due[-1][0]
        for _, kept, nbytes, _ in due:
            self._waiting.popleft()
            self.bytes_written += nbytes
            self.frames_written += kept
            self.frames_left_out += not kept
        if self._sync_s is not None:
            self._file.sync()

    # ------------------------------------------------------------ the end

    def check(self, set_id: str) -> None:
        """Check that the journal is still the one that this recording has written.

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

    def unlock(self) -> None:
        """Let everybody see that the recording has ended."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def retire(self) -> None:
        """Remove the journal, if the sidecar is there, which holds all of it."""
        ours = self._is_ours()
        self.unlock()  # Windows removes no file that is open
        if ours and sidecar_path(self._path).exists():
            journal_path(self._path).unlink(missing_ok=True)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove the journal of a recording that could not begin."""
        ours = self._is_ours()
        self._file.close()
        self.unlock()
        if not ours:
            return
        with suppress(OSError):  # why it could not begin is what is raised
            journal_path(self._path).unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        with suppress(OSError):
            return os.path.samestat(journal_path(self._path).stat(), self._file.identity)
        return False
