"""The end of a session, whoever brings it: all is closed, and all that went wrong is raised."""

from __future__ import annotations

import atexit
import logging
import os
from typing import TYPE_CHECKING

from mda_writers.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mda_writers.acquisition.book import SessionBook
    from mda_writers.acquisition.devices import Devices
    from mda_writers.acquisition.notes import Notes
    from mda_writers.acquisition.running import RunningCores

_logger = logging.getLogger("mda_writers")


class SessionEnd:
    """Ends a session once: at the end of its block, by ``close``, or with the program.

    Parameters
    ----------
    book : SessionBook
        Keeps what went wrong, and writes the last manifest.
    devices : Devices
        Are closed.
    running : RunningCores
        Are waited for.
    notes : Notes
        Are closed last: as long as they are held, the session goes on.
    """

    def __init__(
        self, book: SessionBook, devices: Devices, running: RunningCores, notes: Notes
    ) -> None:
        self._book = book
        self._devices = devices
        self._running = running
        self._notes = notes
        _still_open.add(self)

    def end(self) -> bool:
        """Close everything, and write the last manifest; False if that was done before."""
        if not self._devices.shut():
            return False
        self._do(self._running.wait)
        for close in self._devices.closes():
            self._do(close)
        self._book.end()
        self._notes.close()
        _still_open.discard(self)
        return True

    def cancel_runs(self) -> None:
        """Cancel what still runs; every frame that was acquired is still written."""
        self._running.cancel()
        self._devices.cancel_runs()  # run_mda(output=writer)

    def raise_errors(self, raising: BaseException | None = None) -> None:
        """Raise what went wrong, unless it is only `raising`, which is on its way anyway."""
        errors = self._book.errors
        if not errors or (len(errors) == 1 and errors[0] is raising):
            return
        if len(errors) == 1:
            raise errors[0]
        raise BaseExceptionGroup(f"{self._book.path.parent}: the session failed", errors)

    def _do(self, step: Callable[[], None]) -> None:
        """Do a step of the end; what it raises is kept, and Ctrl-C cancels what it waits for."""
        while True:
            try:
                with self._book.remembering():
                    step()
                return
            except BaseException:
                self.cancel_runs()

    def _end_with_the_program(self) -> None:
        """End a session that nobody closed; the interpreter exits."""
        folder = self._book.path.parent
        try:
            self._book.interrupted = True
            self._book.remember(
                WriteError(f"{folder}: the program ended before the session was closed.")
            )
            self.cancel_runs()
            self.end()
        except Exception:
            _logger.exception("%s: could not be ended.", folder)


_still_open: set[SessionEnd] = set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_still_open.clear)  # they are the parent's


@atexit.register
def _end_all() -> None:
    for session in list(_still_open):
        session._end_with_the_program()
