"""What a writer needs to know of pymmcore-plus's runner: who feeds it, and how much is waiting."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

BACKLOG_SHARE = 0.5
"""Share of the memory that was free at the beginning which frames in upstream's queue may take."""

_logger = logging.getLogger("mda_writers")


class Backlog:
    """The frames that wait in the relay thread of ``run_mda(output=…)``, which knows no bound."""

    def __init__(self) -> None:
        self._relay: Any = None
        self._feeder: threading.Thread | None = None
        self._core: CMMCorePlus | None = None
        self._limit = 0.0
        self._following: Any = None
        self.frames = 0

    def watch(self, thread: threading.Thread, core: CMMCorePlus | None) -> None:
        """Take in who feeds us: `thread`, on behalf of `core` if that is running.

        A relay is told by its method ``remaining``.
        """
        self._relay = thread if hasattr(thread, "remaining") else None
        self._feeder = thread
        self._core = core if is_busy(core) else None
        self._limit = BACKLOG_SHARE * psutil.virtual_memory().available

    def too_long(self, frame_bytes: int) -> bool:
        """Whether the frames that wait take more memory than they may."""
        if self._relay is None:
            return False
        self.frames = self._relay.remaining()
        return self.frames * frame_bytes > self._limit

    def is_coming(self) -> bool:
        """Whether frames, or the end, may still come from who feeds us.

        That is a relay that still lives, or a core that is not idle yet: it is busy until the end
        was announced. Of a core that we do not know, its thread is all there is to go by.
        """
        if self._relay is not None and self._relay.is_alive():
            return True
        if self._relay is not None or self._core is not None:
            return is_busy(self._core)
        strangers = (None, threading.current_thread(), threading.main_thread())
        return self._feeder not in strangers and self._feeder.is_alive()

    def follow_events(self, core: CMMCorePlus | None, writer: Any) -> None:
        """Have ``writer.eventStarted`` called, which relays do not pass on."""
        if self._relay is not None and core is not None:
            core.mda.events.eventStarted.connect(writer.eventStarted)
            self._following = (core.mda.events.eventStarted, writer.eventStarted)

    def unfollow(self) -> None:
        """Undo `follow_events`."""
        if self._following is not None:
            signal, slot = self._following
            signal.disconnect(slot)
            self._following = None


def is_busy(core: CMMCorePlus | None) -> bool:
    """Whether `core` runs an acquisition, up to the announcement of its end."""
    if core is None:
        return False
    status = getattr(core.mda, "status", None)
    return core.mda.is_running() if status is None else str(status.phase) != "idle"


def running_core(core: CMMCorePlus | None) -> CMMCorePlus | None:
    """Return `core`, or else the global instance if there is one; never makes one."""
    if core is not None:
        return core
    from pymmcore_plus.core import _mmcore_plus

    reference = getattr(_mmcore_plus, "_instance", None)
    return reference() if reference is not None else None


def ran_to_end(core: CMMCorePlus | None, sequence: Any) -> bool:
    """Whether the run of `sequence` that has just ended went through all of its events.

    False where the runner cannot tell: by then it may be running something else.
    """
    runner = core.mda if core is not None else None
    if getattr(runner, "_sequence", None) is not sequence:
        return False
    return str(getattr(getattr(runner, "status", None), "finish_reason", "")) == "completed"


def cancel_run(core: CMMCorePlus | None) -> None:
    """Cancel what `core` is running. May be called from any thread."""
    if core is None:
        return
    try:
        core.mda.cancel()
    except Exception:
        _logger.exception("The run could not be cancelled.")
