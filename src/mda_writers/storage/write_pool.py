"""Pools of threads that write: in any order, or in the order of submission."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np

from mda_writers.errors import WriteError
from mda_writers.storage.block_file import BLOCK, BlockFile, Unsynced
from mda_writers.storage.disk_space import explained

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

WORKERS = max(2, min(8, os.cpu_count() or 2))
"""Threads that compute; compression of a camera's data rate takes a handful at most."""

JOBS_WAITING = 2 * WORKERS
"""Jobs that may wait or be done before the writing thread waits, too: each holds a frame."""


# Staged writes: frames are gathered in aligned buffers, and a few of them are in flight at once.
#
# Small frames that lie side by side on disk leave as one write; large ones are cut into pieces.
# One pool serves a whole recording, so that its memory does not grow with the number of files.


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
            extent = self._open.pop((id(file), offset), None) or self._new_extent(file, offset)
            count = min(len(extent.buffer) - extent.end, len(raw))
            extent.take(raw[:count])
            self._last = extent.number
            offset += count
            raw = raw[count:]
            self._open[(id(file), offset)] = extent
            if extent.end == len(extent.buffer):
                self._submit(extent)

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

    def _new_extent(self, file: BlockFile, offset: int) -> _Extent:
        """Return an extent that grows from `offset` on."""
        while len(self._open) >= OPEN_EXTENTS:
            self._submit(next(iter(self._open.values())))
        self._numbers += 1
        first = offset % BLOCK  # in memory as in the file, modulo a block
        self._touched[id(file)] = file
        return _Extent(self._numbers, file, offset, self._buffer(), first, first)

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


# A write pool whose bytes other threads prepare first, and whose files are told of them last.
#
# What has to be computed (a compressed chunk, a smaller level) runs on several threads; what
# comes of it is written in the order in which it was asked for. What makes bytes visible (an
# index entry, a larger shape) is done when they are on the disk, never before.


class Publishable(Protocol):
    """Something on disk that says which bytes are there: an index, a shape."""

    def publish(self) -> Path | None:
        """Write down what is to be seen from now on; return the file that says it."""


Note = Callable[[], Publishable]
"""Enters what has landed; returns what makes it visible."""


class OrderedPool(WritePool):
    """Takes bytes as `WritePool` does, and jobs that make bytes.

    All methods belong to the writing thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._order: deque[_Job | int] = deque()
        self._jobs = 0
        self._marks = 0
        self._notes: list[Note] = []
        self._in_flight: deque[tuple[int, int, list[Note]]] = deque()
        self._landed_mark = 0
        self._broken: BaseException | None = None
        self._work_due: SimpleQueue[_Job | None] = SimpleQueue()
        self._workers: list[threading.Thread] = []

    def later(self, job: Callable[[], Any], put: Callable[[Any], None]) -> None:
        """Run `job` on another thread, then ``put(result)`` on this one, in order.

        Waits while too many jobs are under way.
        """
        while self._jobs >= JOBS_WAITING:
            self._advance(wait=True)
        self._start_workers()
        entry = _Job(job, put)
        self._order.append(entry)
        self._jobs += 1
        self._work_due.put(entry)

    def when_landed(self, note: Note) -> None:
        """Call `note` when all that was written so far is on the disk.

        What it returns is published afterwards, once for all frames that landed together.
        """
        self._notes.append(note)

    def mark(self) -> None:
        """Say that a frame is complete: what was given so far belongs to it."""
        self._marks += 1
        self._order.append(self._marks)
        self._advance(wait=False)

    # ------------------------------------------------------------ as for any write pool

    def staged(self) -> int:
        """Return the number of the last mark."""
        return self._marks

    def landed(self) -> int:
        """Return the number of the mark up to which all is on disk, and visible.

        Where everything has to be durable, only `secure` makes anything visible.
        """
        if not self.durable:
            self._advance(wait=False)
            self._publish_up_to(super().landed())
        return self._landed_mark

    def secure(self) -> int:
        """Make what has landed visible, and safe from a power cut: first the bytes."""
        self._advance(wait=False)
        landed = super().landed()
        self._sync()
        self._publish_up_to(landed)
        self._sync()
        return self._landed_mark

    def flush(self) -> bool:
        """Send on what is there; True when nothing is under way any more."""
        self._advance(wait=False)
        nothing_in_flight = super().flush()
        self.landed()
        return nothing_in_flight and not self._order and not self._in_flight

    def drain(self) -> None:
        """Return when everything so far is on the disk, and visible."""
        while self._order and self._broken is None:
            self._advance(wait=True)
        if self._broken is not None:
            raise self._broken
        super().drain()
        self._make_visible()

    def close(self) -> None:
        """Wait for what is under way, make visible what has landed, end the threads."""
        with suppress(BaseException):
            self.drain()
        super().close()
        with suppress(BaseException):
            self._make_visible()
        for _ in self._workers:
            self._work_due.put(None)
        for worker in self._workers:
            worker.join()

    # ------------------------------------------------------------ helpers

    def _make_visible(self) -> None:
        self.secure() if self.durable else self.landed()

    def _publish_up_to(self, landed: int) -> None:
        """Make visible what has landed; what could not be made so never counts, nor what follows.

        Its notes are taken: another attempt would find nothing to do, and take that for success.
        """
        if self._broken is not None:
            return
        changed: dict[int, Publishable] = {}
        number = self._landed_mark
        try:
            while self._in_flight and self._in_flight[0][0] <= landed:
                _, number, notes = self._in_flight.popleft()
                for note in notes:
                    visible = note()
                    changed[id(visible)] = visible
            for visible in changed.values():
                file = visible.publish()
                if self.durable and file is not None:
                    self.note(file)
        except BaseException as error:
            self._broken = error
            raise
        self._landed_mark = number

    def _advance(self, wait: bool) -> None:
        """Put what is done, in order; with `wait`, wait for the first job."""
        while self._order and self._broken is None:
            entry = self._order[0]
            if isinstance(entry, int):
                # its notes are those of all bytes written so far, be they another frame's
                self._in_flight.append((super().staged(), entry, self._notes))
                self._notes = []
            elif wait or entry.future.done():
                self._put(entry)
                wait = False
            else:
                return
            self._order.popleft()

    def _put(self, job: _Job) -> None:
        try:
            job.put(job.future.result())
        except BaseException as error:
            # marks behind it must never count as landed
            self._broken = error
            raise
        self._jobs -= 1

    def _start_workers(self) -> None:
        # not an executor: those refuse work while the interpreter exits
        if len(self._workers) < WORKERS:
            worker = threading.Thread(
                target=self._compute, name=f"mda-writers-compute-{len(self._workers)}", daemon=True
            )
            self._workers.append(worker)
            worker.start()

    def _compute(self) -> None:
        while (job := self._work_due.get()) is not None:
            try:
                if self._broken is not None:  # nobody will write what comes of it
                    raise self._broken
                job.future.set_result(job.job())
            except BaseException as error:
                job.future.set_exception(error)
            del job


class _Job:
    def __init__(self, job: Callable[[], Any], put: Callable[[Any], None]) -> None:
        self.job = job
        self.put = put
        self.future: Future[Any] = Future()


class LevelsPool(OrderedPool):
    """Counts the bytes of smaller levels that lack, so that the disk is not filled without them."""

    def __init__(self) -> None:
        super().__init__()
        self._owed = 0

    def owe(self, nbytes: int) -> None:
        """Take in that so much will have to be written in the end; less than 0: that it is."""
        self._owed += nbytes

    def bytes_under_way(self) -> int:
        """Return the room of the levels that lack."""
        return max(0, self._owed)
