"""`record`: run an acquisition so that no frame can be lost, and hear of it if one was."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mda_writers.errors import options_checked

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.mda_writer import MDAWriter


@options_checked("record")
def record(
    core: CMMCorePlus,
    sequence: MDASequence | Iterable[MDAEvent],
    writers: MDAWriter | Iterable[MDAWriter],
    *,
    progress: bool = True,
) -> list[RecordingReport]:
    """Run `sequence` on `core`, and save it with `writers`.

    The writers are connected directly: a slow disk holds the camera back. Ctrl-C cancels the
    run, keeps what was taken, and is raised again at the end.

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
    WriteError
        If a writer failed; with several, an ``ExceptionGroup`` of theirs.
    Exception
        What the acquisition engine raised; the writers have kept what came before.
    """
    each = list(writers) if isinstance(writers, Iterable) else [writers]
    runner = _Runner(core, sequence)
    errors: list[BaseException] = []
    with ExitStack() as stack:
        for writer in each:
            stack.enter_context(_collecting(errors))
            stack.enter_context(writer.connected(core))
        runner.run(each, progress)
    errors = [*runner.errors, *errors]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("The recording failed", errors)
    return [writer.result() for writer in each]


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

    def run(self, writers: list[MDAWriter], progress: bool) -> None:
        thread = threading.Thread(target=self._acquire, name="mda-writers-acquisition")
        thread.start()
        with ExitStack() as stack:
            show = stack.enter_context(_Progress(writers)) if progress else None
            while thread.is_alive():
                try:
                    thread.join(0.1)
                    if show is not None:
                        show.update()
                except KeyboardInterrupt as interrupt:
                    self.errors.append(interrupt)
                    self._core.mda.cancel()

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
