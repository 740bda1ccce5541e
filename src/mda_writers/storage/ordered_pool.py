"""A write pool whose bytes other threads prepare first, and whose files are told of them last.

What has to be computed (a compressed chunk, a smaller level) runs on several threads; what comes
of it is written in the order in which it was asked for. What makes bytes visible (an index
entry, a larger shape) is done when they are on the disk, never before.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from mda_writers.storage.write_pool import WritePool

WORKERS = max(2, min(8, os.cpu_count() or 2))
"""Threads that compute; compression of a camera's data rate takes a handful at most."""

JOBS_WAITING = 2 * WORKERS
"""Jobs that may wait or be done before the writing thread waits, too: each holds a frame."""


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
