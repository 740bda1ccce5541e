"""`record`: run an acquisition so that no frame can be lost, and hear of it if one was."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mda_writers.errors import options_checked
from mda_writers.pymmcore import let_application_live

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.base import MDAWriter


@options_checked("record")
def record(
    core: CMMCorePlus,
    sequence: MDASequence | Iterable[MDAEvent],
    writers: MDAWriter | Iterable[MDAWriter],
    *,
    progress: bool = True,
) -> list[RecordingReport]:
    """Run `sequence` on `core`, and save it with `writers`.

    The writers are connected directly: a slow disk applies back-pressure. May be called on any
    thread; on that of a Qt application its loop goes on meanwhile, without user input. Ctrl-C
    cancels the run, keeps what was taken, and is raised again at the end; a second Ctrl-C waits
    for nothing more, and leaves the end to `recover`.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope.
    sequence : MDASequence or iterable of MDAEvent
        What to acquire.
    writers : MDAWriter or iterable of MDAWriter
        Who saves it.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    list of RecordingReport
        One for each writer, in their order.

    Raises
    ------
    ValueError
        If two of the writers would write to one path.
    WriteError
        If a writer failed; with several, an ``ExceptionGroup`` of theirs.
    Exception
        What the acquisition engine raised; the writers have kept what came before.
    """
    each = list(writers) if isinstance(writers, Iterable) else [writers]
    _check_places(each)
    runner = _Runner(core, sequence)
    errors: list[BaseException] = []
    with ExitStack() as stack:
        for writer in each:
            stack.enter_context(_collecting(errors))
            stack.enter_context(writer.connected(core))
        runner.run(each, progress)
    _raise(runner.interrupt, [*runner.errors, *errors])
    return [writer.result() for writer in each]


def _check_places(writers: list[MDAWriter]) -> None:
    places: set[object] = set()
    for writer in writers:
        if writer._place in places:
            raise ValueError(
                f"record: two of the writers have the path {writer.path}. Give each a name of its "
                "own."
            )
        places.add(writer._place)


def _raise(interrupt: BaseException | None, errors: list[BaseException]) -> None:
    """Raise what went wrong; an interrupt as itself, whatever else there is."""
    interrupts = [error for error in errors if not isinstance(error, Exception)]
    interrupt = interrupt or (interrupts[0] if interrupts else None)
    errors = [error for error in errors if error not in interrupts]
    error = errors[0] if len(errors) == 1 else None
    if len(errors) > 1:
        error = BaseExceptionGroup("The recording failed", errors)
    if interrupt is not None:
        raise interrupt from error
    if error is not None:
        raise error


class _collecting:  # noqa: N801 - a context manager, used like a function
    """Collects what the block raises instead of raising it."""

    def __init__(self, errors: list[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None and error not in self._errors:
            self._errors.append(error)
        return True


class _Runner:
    """Runs the acquisition on a thread of its own, so that Ctrl-C reaches this one.

    Upstream's runner does not finish a run that a ``KeyboardInterrupt`` passes through.
    """

    def __init__(self, core: CMMCorePlus, sequence: Any) -> None:
        self._core = core
        self._sequence = sequence
        self.errors: list[BaseException] = []
        self.interrupt: BaseException | None = None

    def run(self, writers: list[MDAWriter], progress: bool) -> None:
        thread = threading.Thread(target=self._acquire, name="mda-writers-acquisition")
        thread.start()
        interrupts = 0
        with ExitStack() as stack:
            show = stack.enter_context(_Progress(writers)) if progress else None
            while thread.is_alive() and interrupts < 2:
                try:
                    thread.join(0.05)
                    let_application_live()
                    if show is not None:
                        show.update()
                except KeyboardInterrupt as interrupt:
                    self.interrupt = self.interrupt or interrupt
                    interrupts += 1
                    self._core.mda.cancel()
                    for writer in writers:
                        writer._interrupt_wait()

    def _acquire(self) -> None:
        try:
            self._core.mda.run(self._sequence)
        except BaseException as error:
            self.errors.append(error)


class _Progress:
    """A progress bar with one line for each writer."""

    def __init__(self, writers: list[MDAWriter]) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._writers = writers
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("frames"),
            transient=True,
        )
        self._tasks = [self._bar.add_task(writer.path.name, total=None) for writer in writers]

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        self._bar.stop()

    def update(self) -> None:
        for task, writer in zip(self._tasks, self._writers, strict=True):
            self._bar.update(task, completed=writer.frames_written, total=writer.frames_expected)
