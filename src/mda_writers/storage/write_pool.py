"""Staged writes: frames are gathered in aligned buffers, and a few of them are in flight at once.

Small frames that lie side by side on disk leave as one write; large ones are cut into pieces.
One pool serves a whole recording, so that its memory does not grow with the number of files.
"""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from mda_writers.errors import WriteError
from mda_writers.storage.block_file import BLOCK, BlockFile
from mda_writers.storage.failure import explained
from mda_writers.storage.file_system import Unsynced

BUFFER_BYTES = 8 << 20
"""Bytes of one write. Measured: 8 MiB reach the disk's full speed, 1 MiB four fifths of it."""

BUFFERS = 8
"""Buffers of a pool: two in flight, the rest being filled or waiting."""

THREADS = 2
"""Writes in flight. Measured: one leaves the disk idle while the next is prepared; three and
more win nothing on one disk."""

OPEN_EXTENTS = 4
"""Runs of adjacent bytes that are gathered at the same time, for frames that alternate between
files (positions) or places (cameras)."""


SMALL_COPY_BYTES = 256 << 10
"""Below, a copy keeps the interpreter's lock. numpy would let go of it for the few microseconds,
and getting it back from a busy camera thread takes longer than the copy."""


@dataclass(slots=True, eq=False)
class _Extent:
    """Adjacent bytes of one file, gathered in one buffer. `start` counts in the file."""

    number: int
    file: BlockFile
    start: int
    buffer: np.ndarray
    first: int
    end: int

    @property
    def next_offset(self) -> int:
        return self.start + self.end - self.first

    @property
    def room(self) -> int:
        return len(self.buffer) - self.end

    def take(self, raw: np.ndarray) -> None:
        """Copy `raw` behind what is there."""
        end = self.end + len(raw)
        if len(raw) < SMALL_COPY_BYTES:
            self.buffer.data[self.end : end] = raw.data
        else:
            self.buffer[self.end : end] = raw
        self.end = end


class WritePool:
    """Takes bytes with their place, and has them written by threads of its own.

    `write`, `flush`, `sync` and `close` belong to one thread; `landed` may be asked from any.

    Parameters
    ----------
    buffers, buffer_bytes : int
        Number and size of the staging buffers; their product is the pool's memory.
    threads : int
        Writes in flight.

    Attributes
    ----------
    durable : bool
        Whether nothing shall count before it would survive a power cut: see `secure`.
    """

    durable = False

    def __init__(
        self, buffers: int = BUFFERS, buffer_bytes: int = BUFFER_BYTES, threads: int = THREADS
    ) -> None:
        self._buffer_bytes = buffer_bytes
        self._unused = buffers
        self._free: deque[np.ndarray] = deque()
        self._open: OrderedDict[tuple[int, int], _Extent] = OrderedDict()
        self._touched: dict[int, BlockFile] = {}
        self._unsynced = Unsynced()
        self._due: SimpleQueue[_Extent | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._done: set[int] = set()
        self._landed = 0
        self._last = 0
        self._numbers = 0
        self._error: WriteError | None = None
        # not an executor: those refuse work while the interpreter exits, when an open recording
        # still has to be closed
        self._threads = [
            threading.Thread(target=self._work, name=f"mda-writers-disk-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    # ------------------------------------------------------------ the writing thread

    def write(self, file: BlockFile, offset: int, data: np.ndarray) -> None:
        """Stage `data` (C-contiguous, any dtype) for `offset` of `file`.

        Returns when `data` may be changed again; waits while all buffers are in flight.

        Raises
        ------
        WriteError
            If an earlier write failed.
        """
        raw = data.reshape(-1).view(np.uint8)
        while len(raw):
            extent = self._extent(file, offset)
            count = min(extent.room, len(raw))
            extent.take(raw[:count])
            self._last = extent.number
            offset += count
            raw = raw[count:]
            self._keep_or_submit(extent)

    def staged(self) -> int:
        """Return the number of the write that the last bytes given are part of."""
        return self._last

    def landed(self) -> int:
        """Return the number up to which every write is complete.

        After a write that failed nothing counts as landed.
        """
        return self._landed

    def bytes_under_way(self) -> int:
        """Return the room that frames handed over before will take besides their own bytes."""
        return 0

    def flush(self) -> bool:
        """Send what is gathered on its way; True when nothing is in flight any more.

        Raises
        ------
        WriteError
            If a write failed.
        """
        self._submit_all()
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._landed == self._numbers

    def drain(self) -> None:
        """Return when everything written so far has landed.

        Raises
        ------
        WriteError
            If a write failed.
        """
        self._submit_all()
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._landed == self._numbers)
            if self._error is not None:
                raise self._error

    def secure(self) -> int:
        """Make what has landed survive a power cut; return the number up to which that is."""
        landed = self.landed()
        self._sync()
        return landed

    def note(self, path: Path) -> None:
        """Take in that a file was made, or replaced, without the pool."""
        self._unsynced.note(path)

    def wrote(self, file: BlockFile) -> None:
        """Take in that bytes were written to `file` without the pool."""
        self._touched[id(file)] = file

    def forget(self, file: BlockFile) -> None:
        """Leave `file`, which is complete and closed, out of `secure`: it may be moved away."""
        self._touched.pop(id(file), None)

    def _sync(self) -> None:
        while self._touched:
            self._unsynced.note(self._touched.popitem()[1].path, replaced=False)
        try:
            self._unsynced.sync()
        except OSError as error:
            raise explained(error, Path(error.filename)) from error

    def close(self) -> None:
        """Wait for the writes in flight, and end the threads. Never raises."""
        self._submit_all()
        for _ in self._threads:
            self._due.put(None)
        for thread in self._threads:
            thread.join()
        self._free.clear()

    # ------------------------------------------------------------ extents

    def _extent(self, file: BlockFile, offset: int) -> _Extent:
        """Return the extent that grows at `offset`, or a new one."""
        extent = self._open.pop((id(file), offset), None)
        if extent is not None:
            return extent
        while len(self._open) >= OPEN_EXTENTS:
            self._submit(next(iter(self._open.values())))
        self._numbers += 1
        first = offset % BLOCK  # in memory as in the file, modulo a block
        self._touched[id(file)] = file
        return _Extent(self._numbers, file, offset, self._buffer(), first, first)

    def _keep_or_submit(self, extent: _Extent) -> None:
        self._open[(id(extent.file), extent.next_offset)] = extent
        if extent.room == 0:
            self._submit(extent)

    def _submit_all(self) -> None:
        while self._open:
            self._submit(next(reversed(self._open.values())))

    def _submit(self, extent: _Extent) -> None:
        """Send `extent` off, and every older one.

        What has landed is counted in order; it must not wait for an extent that may never grow.
        """
        due = sorted(
            (e for e in self._open.values() if e.number <= extent.number), key=lambda e: e.number
        )
        for older in due:
            del self._open[(id(older.file), older.next_offset)]
            self._due.put(older)

    def _buffer(self) -> np.ndarray:
        """Return a free buffer: a new one while there are unused ones, else wait for one."""
        with self._changed:
            if not self._free and self._unused:
                self._unused -= 1
                return np.frombuffer(mmap.mmap(-1, self._buffer_bytes), np.uint8)
            self._changed.wait_for(lambda: self._error or self._free)
            if self._error is not None:
                raise self._error
            return self._free.pop()

    # ------------------------------------------------------------ the disk's threads

    def _work(self) -> None:
        while (extent := self._due.get()) is not None:
            try:
                filled = extent.buffer.data[extent.first : extent.end]
                extent.file.write_at(extent.start, filled)
            except BaseException as error:
                self._land(extent, _as_write_error(error, extent))
            else:
                self._land(extent, None)

    def _land(self, extent: _Extent, error: WriteError | None) -> None:
        with self._changed:
            if error is not None:
                self._error = self._error or error
            else:
                self._done.add(extent.number)
                while self._landed + 1 in self._done:
                    self._landed += 1
                    self._done.discard(self._landed)
            self._free.append(extent.buffer)
            self._changed.notify_all()


def _as_write_error(error: BaseException, extent: _Extent) -> WriteError:
    if isinstance(error, OSError):
        return explained(error, extent.file.path, extent.end - extent.first)
    return WriteError(f"{extent.file.path}: could not be written ({error!r}).")
