"""Jobs that are done behind the back of the thread that orders them, one after the other."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """A thread that does jobs; it begins with the first one.

    `put`, `wait` and `close` belong to one thread. After a job that failed no other one is done.

    Parameters
    ----------
    name : str
        Of the thread.
    most : int
        Jobs that may wait, the one being done included: what they hold in memory is bounded.
    """

    def __init__(self, name: str, most: int = 2) -> None:
        self._name = name
        self._most = most
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def put(self, job: Callable[[], None]) -> None:
        """Have `job` done; wait while too many do.

        Raises
        ------
        BaseException
            What an earlier job raised.
        """
        if self._thread is None:
            # not an executor: those refuse work while the interpreter exits
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._error or len(self._jobs) < self._most)
            if self._error is not None:
                raise self._error
            self._jobs.append(job)
            self._changed.notify_all()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits any more; raises what a job raised."""
        with self._changed:
            if self._error is not None:
                raise self._error
            return not self._jobs

    def wait(self) -> None:
        """Return when every job is done; raises what a job raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._jobs)
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Wait for the jobs, and end the thread; raises what a job raised."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while self._wait_for_job():
            try:
                self._jobs[0]()
            except BaseException as error:
                self._error = error
            with self._changed:
                self._jobs.popleft()
                if self._error is not None:
                    self._jobs.clear()
                self._changed.notify_all()

    def _wait_for_job(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            return bool(self._jobs)
