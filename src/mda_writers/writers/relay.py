"""What a writer needs to know of pymmcore-plus's runner: who feeds it, and how much is waiting."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import psutil

from mda_writers.recording.reporting import mark_begun

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

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
        self.frames = 0

    def watch(self, thread: threading.Thread, core: CMMCorePlus | None) -> None:
        """Take in who feeds us: `thread`, on behalf of `core` if that is running.

        A relay is told by its method ``remaining``.
        """
        self._relay = thread if is_relay(thread) else None
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


def is_relay(thread: threading.Thread) -> bool:
    """Whether `thread` is the one on which ``run_mda(output=…)`` calls handlers."""
    return hasattr(thread, "remaining")


def _relay_event(relay: Any, event: MDAEvent) -> None:
    """Pass on that an event was begun, in order with its frames."""
    mark_begun(event)
    relay._deque.append(("eventStarted", (event,)))


def _have_relays_pass_on_events() -> None:
    """Have relays call ``eventStarted``, too: they leave it out, and handlers that have it wait.

    Connecting to it ourselves, once the relay announced the run, misses the first events: the
    relay lags behind the run. Under Qt, such a connection never arrives.
    """
    from pymmcore_plus.mda import _thread_relay

    if not hasattr(_thread_relay.MDARelayThread, "eventStarted"):
        _thread_relay.MDARelayThread.eventStarted = _relay_event  # type: ignore[attr-defined]


_have_relays_pass_on_events()


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
