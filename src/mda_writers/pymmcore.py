"""All that is known of pymmcore-plus's insides: its handler class, its relay, its runs.

pymmcore-plus 0.18 deprecated its handlers and will remove them. As long as they exist, our
writers are instances of its ``OMETiffWriter``, so that ``isinstance`` checks in acquisition
scripts keep holding; once they are gone, the class below takes its place.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import psutil
from pymmcore_plus.mda import MDARunner

from mda_writers.model.plan import mark_begun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent


BACKLOG_SHARE = 0.5
"""Share of the memory that was free at the beginning which frames in upstream's queue may take."""

_SIGNALS = (
    "sequenceStarted",
    "sequencePauseToggled",
    "sequenceCanceled",
    "sequenceFinished",
    "frameReady",
    "awaitingEvent",
    "eventStarted",
)

_logger = logging.getLogger("mda_writers")


class HandlerBase:
    """The hooks and attributes of pymmcore-plus's ``OMETiffWriter``, without its behaviour.

    ``MDAWriter`` overrides everything that does something; what is declared here is what other
    code may ask an output handler for.
    """

    position_arrays: dict[str, Any]
    current_sequence: Any

    @property
    def position_sizes(self) -> list[dict[str, int]]:
        """Axis → size of every image, in order."""
        raise NotImplementedError

    def sequenceStarted(self, seq: Any, meta: Any = None) -> None:
        """Receive the sequence that begins, and the summary metadata."""

    def frameReady(self, frame: np.ndarray, event: Any, meta: Mapping[str, Any]) -> None:
        """Receive one frame, its event, and its metadata."""

    def sequenceFinished(self, seq: Any) -> None:
        """Receive the end of the sequence."""

    def new_array(self, position_key: str, dtype: np.dtype, sizes: dict[str, int]) -> Any:
        """Create the array on disk for one position."""
        raise NotImplementedError

    def write_frame(self, ary: Any, index: tuple[int, ...], frame: np.ndarray) -> None:
        """Write one frame into its array."""
        ary[index] = frame

    def finalize_metadata(self) -> None:
        """Write what is only known at the end of a sequence."""


def _handler_base() -> type:
    with warnings.catch_warnings():
        # the module announces its own removal; that is why this package exists
        warnings.simplefilter("ignore", FutureWarning)
        try:
            from pymmcore_plus.mda.handlers import OMETiffWriter as upstream_writer
        except ImportError:
            return HandlerBase
    return upstream_writer


if TYPE_CHECKING:
    # so that a misspelt method of a writer is found: upstream's class is Any to a type checker
    OMETiffWriter = HandlerBase
else:
    OMETiffWriter = _handler_base()


# What a writer needs to know of pymmcore-plus's runner: who feeds it, and how much is waiting.
#
# Why runs are watched, and what Qt has to do with it: ``docs/decisions/0011``.


# ---------------------------------------------------------------- the runs of this process


@dataclass(frozen=True, slots=True, eq=False)
class _RunUnderWay:
    runner: MDARunner
    outputs: list[Any]
    thread_id: int


_under_way: list[_RunUnderWay] = []
_runners: weakref.WeakSet[MDARunner] = weakref.WeakSet()
_changing = threading.Condition()

_LAST_RUN_LEAVES_S = 1.0
"""The most that a run waits for the one before it on the same runner to take down its connections.
PyQt6 loses, once in a thousand times, a signal that is connected meanwhile."""


def watch_runs(writers: type) -> None:
    """Have every run of pymmcore-plus noted here, with its runner, thread and outputs.

    Where a run's signals are Qt's, outputs that are `writers` are fed without Qt: see `_relayed`.
    """
    MDARunner.run = _watched(MDARunner.run, writers)  # type: ignore[method-assign]


def _watched(run: Callable[..., None], writers: type) -> Callable[..., None]:
    @wraps(run)
    def watched(self: MDARunner, events: Any, *, output: Any = None, **options: Any) -> None:
        single = isinstance(output, (str, os.PathLike)) or not isinstance(output, Sequence)
        outputs = [output] if single else list(output)
        ours = [each for each in outputs if isinstance(each, writers)]
        with _noted(_RunUnderWay(self, ours, threading.get_ident())):
            if not (ours and _is_qt(self.events.frameReady)):
                return run(self, events, output=output, **options)
            others = [each for each in outputs if not isinstance(each, writers)]
            with _relayed(self, ours):
                return run(self, events, output=others or None, **options)

    return watched


@contextmanager
def _noted(run: _RunUnderWay) -> Iterator[None]:
    with _changing:
        _changing.wait_for(lambda: not goes_on(run.runner), _LAST_RUN_LEAVES_S)
        _runners.add(run.runner)
        _under_way.append(run)
    try:
        yield
    finally:
        with _changing:
            _under_way.remove(run)
            _changing.notify_all()


def _forget_other_threads() -> None:
    """After a fork: the runs of the parent's other threads do not go on here."""
    global _changing
    _changing = threading.Condition()
    _under_way[:] = [run for run in _under_way if run.thread_id == threading.get_ident()]


def runner_that_feeds(writer: Any, sequence: Any, core: CMMCorePlus | None) -> MDARunner | None:
    """Return the runner that has just announced `sequence` to `writer`; None if not surely known.

    It runs on this very thread, or has the writer among its outputs, or is the only one that
    is, or was last, at this sequence; among several, that of `core`.
    """
    with _changing:
        under_way, runners = list(_under_way), list(_runners)
    here = threading.get_ident()
    for run in reversed(under_way):
        if run.thread_id == here:
            return run.runner
    for run in under_way:
        if any(output is writer for output in run.outputs):
            return run.runner
    at_it = [r for r in runners if sequence is not None and r._sequence is sequence]
    if core is not None and core.mda in at_it:
        return core.mda
    return at_it[0] if len(at_it) == 1 else None


def goes_on(runner: MDARunner) -> bool:
    """Whether `runner` runs something, on a thread other than this one."""
    here = threading.get_ident()
    return any(run.runner is runner and run.thread_id != here for run in list(_under_way))


def may_begin(writer: Any, core: CMMCorePlus | None) -> bool:
    """Whether a run goes on that may be about to announce itself to `writer`.

    Which run will feed a writer that was connected by hand is not known before: any that is
    being prepared may.
    """
    here = threading.get_ident()
    return any(
        any(output is writer for output in run.outputs)
        or (core is not None and run.runner is core.mda)
        or str(run.runner.status.phase) == "preparing"
        for run in list(_under_way)
        if run.thread_id != here
    )


# ---------------------------------------------------------------- who feeds one writer


class Backlog:
    """Who feeds a writer; and the frames that wait in a relay thread, which knows no bound."""

    def __init__(self) -> None:
        self._relay: Any = None
        self._feeder: threading.Thread | None = None
        self._runner: weakref.ref[MDARunner] | None = None
        self._limit = 0.0
        self.frames = 0

    def watch(self, writer: Any, sequence: Any, core: CMMCorePlus | None) -> None:
        """Take in who feeds `writer`; called by whoever announces `sequence` to it."""
        self._feeder = threading.current_thread()
        self._relay = self._feeder if is_relay(self._feeder) else None
        runner = runner_that_feeds(writer, sequence, core)
        self._runner = None if runner is None else weakref.ref(runner)
        self._limit = BACKLOG_SHARE * psutil.virtual_memory().available

    @property
    def runner(self) -> MDARunner | None:
        """The runner that feeds the writer, where it is known."""
        return self._runner() if self._runner is not None else None

    def too_long(self, frame_bytes: int) -> bool:
        """Whether the frames that wait take more memory than they may."""
        if self._relay is None:
            return False
        self.frames = self._relay.remaining()
        return self.frames * frame_bytes > self._limit

    def is_coming(self) -> bool:
        """Whether frames, or the end, may still come from who feeds us.

        That is a relay that still lives, or a run that goes on. Where the run is not known, the
        thread that called us is all there is to go by.
        """
        if self._relay is not None and self._relay.is_alive():
            return True
        if self.runner is not None:
            return goes_on(self.runner)
        if self._relay is not None:
            return False
        strangers = (None, threading.current_thread(), threading.main_thread())
        # of a thread that Python did not start, is_alive() knows nothing
        return self._feeder not in strangers and self._feeder.ident in sys._current_frames()

    def only_end_is_missing(self, sequence: Any, canceled: bool) -> bool:
        """Whether the relay of `sequence` ended when nothing but the end was left to pass on.

        Upstream's relay is told to stop before it is told of the end: it may be quicker. That it
        did not end of an exception, on the last frame, the report will say: all frames are here.
        A run that was cancelled says so after its last frame.
        """
        if self._relay is None or self._relay.is_alive() or self._relay.remaining() > 1:
            return False
        return canceled or ran_to_end(self.runner, sequence)

    def core(self, candidate: CMMCorePlus | None) -> CMMCorePlus | None:
        """Return the core of the run that feeds the writer, where it is known."""
        runner = self.runner
        if runner is None:
            return None
        if candidate is not None and candidate.mda is runner:
            return candidate
        with suppress(Exception):  # an engine of a user's own need not have a core
            core: CMMCorePlus | None = getattr(runner.engine, "mmcore", None)
            return core
        return None


def any_core(core: CMMCorePlus | None) -> CMMCorePlus | None:
    """Return `core`, or else the global instance if there is one; never makes one."""
    if core is not None:
        return core
    from pymmcore_plus.core import _mmcore_plus

    reference = getattr(_mmcore_plus, "_instance", None)
    return reference() if reference is not None else None


def ran_to_end(runner: MDARunner | None, sequence: Any) -> bool:
    """Whether the run of `sequence` that has just ended went through all of its events.

    False where the runner cannot tell: by then it may be running something else.
    """
    if runner is None or runner._sequence is not sequence:
        return False
    return str(runner.status.finish_reason) == "completed"


def cancel_run(core: CMMCorePlus | None) -> None:
    """Cancel what `core` is running. May be called from any thread."""
    cancel(core.mda if core is not None else None)


def cancel(runner: MDARunner | None) -> None:
    """Cancel what `runner` is running. May be called from any thread."""
    if runner is None:
        return
    try:
        runner.cancel()
    except Exception:
        _logger.exception("The run could not be cancelled.")


# ---------------------------------------------------------------- signals, and relays


@contextmanager
def connected_directly(events: Any, listener: Any) -> Iterator[None]:
    """Connect the methods of `listener` to the signals of their names, for the block.

    They are called on the thread that emits. Qt's own choice is the loop of another thread, which
    may wait for that very run.
    """
    connections = []
    for name in _SIGNALS:
        slot = getattr(listener, name, None)
        if callable(slot):
            signal = getattr(events, name)
            connections.append((signal, _connect(signal, slot)))
    try:
        yield
    finally:
        for signal, token in connections:
            _disconnect(signal, token)


def _connect(signal: Any, slot: Callable[..., Any]) -> Any:
    if not _is_qt(signal):
        return signal.connect(slot)
    qt = sys.modules[type(signal).__module__].Qt
    token = signal.connect(slot, qt.ConnectionType.DirectConnection)
    return slot if token is None or isinstance(token, bool) else token


def _disconnect(signal: Any, token: Any) -> None:
    try:
        signal.disconnect(token)
    except Exception:  # Qt may have taken down one end of it already
        _logger.debug("A signal could not be disconnected.", exc_info=True)


def _is_qt(signal: Any) -> bool:
    return type(signal).__module__.split(".")[0] in _QT_BINDINGS


_QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")


@contextmanager
def _relayed(runner: MDARunner, writers: list[Any]) -> Iterator[None]:
    """Feed `writers` as upstream's relay would, but past Qt.

    Upstream lets Qt choose the thread on which its relay is started, filled and stopped. With
    PySide6 that is the thread of the application: where it waits for the run, nothing ever comes.
    """
    from pymmcore_plus.mda._thread_relay import MDARelayThread
    from pymmcore_plus.mda.events import MDASignaler

    class Relay(MDARelayThread):
        def sequenceStarted(self, *args: Any) -> None:
            with suppress(AttributeError):  # what `get_output_handlers` returns
                runner._handlers.update(writers)
            super().sequenceStarted(*args)

    relay = Relay(MDASignaler)
    with connected_directly(runner.events, relay), _all_connected(relay.signals, writers):
        relay.start()
        try:
            yield
        finally:
            relay.stop()  # all is in its queue by now
            relay.join()


@contextmanager
def _all_connected(events: Any, listeners: list[Any]) -> Iterator[None]:
    if not listeners:
        yield
        return
    with connected_directly(events, listeners[0]), _all_connected(events, listeners[1:]):
        yield


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


def let_application_live() -> None:
    """In the thread of a Qt application, let its loop do what is due; it gets no user input.

    Who waits there for a run holds up everything that the run sends to the application: each
    frame would stay in memory until the end.
    """
    for binding in _QT_BINDINGS:
        qt: Any = sys.modules.get(f"{binding}.QtCore")
        application = qt.QCoreApplication.instance() if qt is not None else None
        if application is not None and application.thread() == qt.QThread.currentThread():
            flags = qt.QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents
            application.processEvents(flags, _EVENTS_MS)


_EVENTS_MS = 50
"""Time for an application's loop at once; what waits for a run looks again after it."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


_have_relays_pass_on_events()
