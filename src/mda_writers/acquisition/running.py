"""The runs of a session that go on, on whatever thread: to wait for, or to cancel."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mda_writers.writers.relay import cancel_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymmcore_plus import CMMCorePlus


class RunningCores:
    """The cores that run something for a session."""

    def __init__(self) -> None:
        self._cores: list[CMMCorePlus] = []
        self._changed = threading.Condition()

    @contextmanager
    def running(self, core: CMMCorePlus) -> Iterator[None]:
        """Count `core` among them for the block."""
        with self._changed:
            self._cores.append(core)
        try:
            yield
        finally:
            with self._changed:
                self._cores.remove(core)
                self._changed.notify_all()

    def wait(self) -> None:
        """Return when none is left."""
        with self._changed:
            while self._cores:
                self._changed.wait(0.1)  # a wait without a limit hears no Ctrl-C on Windows

    def cancel(self) -> None:
        """Cancel all runs; every frame that was acquired is still written."""
        with self._changed:
            cores = list(self._cores)
        for core in cores:
            cancel_run(core)
