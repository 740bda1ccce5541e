"""What came of a recording: counted while it runs, waited for, and raised if it failed."""

from __future__ import annotations

import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mda_writers.errors import WriteError
from mda_writers.recording.reporting import files_of
from mda_writers.sinks.sidecar import journal_path, recording_path, sidecar_path
from mda_writers.writers.relay import (
    any_core,
    connected_directly,
    let_application_live,
    may_begin,
)
from mda_writers.writers.run_owner import RunOwner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymmcore_plus import CMMCorePlus

    from mda_writers.model.report import RecordingReport
    from mda_writers.recording.run import Run

RUN_BEGINS_S = 0.3
"""How long to wait for a run that was just asked for on a thread of its own."""


class Outcome(RunOwner):
    """Counts, files, error and report of a writer's last recording."""

    @property
    def frames_expected(self) -> int | None:
        """Frames that the plan holds; None when its length is unknown."""
        return self._run.locator.frames_expected if self._run else None

    @property
    def frames_received(self) -> int:
        """Frames handed over so far."""
        return self._run.frames_received if self._run else 0

    @property
    def frames_written(self) -> int:
        """Frames that are on disk, pixels and metadata."""
        return self._run.frames_written if self._run else 0

    @property
    def paths(self) -> list[Path]:
        """The files of the last recording that exist."""
        run = self._run
        if run is None or run.gave_way:
            return []
        names = (
            name
            for image in run.locator.images
            for name in getattr(run.arrays.get(image.key), "files", image.all_files)
        )
        files = files_of(run.path, names)
        files += run.projections.files() if run.projections else []
        files += [f(run.path) for f in (sidecar_path, recording_path, journal_path)]
        return [file for file in dict.fromkeys(files) if file.exists()]

    @property
    def error(self) -> WriteError | None:
        """What went wrong, or None."""
        return self._refused or (self._run.failure if self._run else None)

    def result(self) -> RecordingReport:
        """Return the report of the last recording; waits for its end.

        Raises
        ------
        WriteError
            If the recording failed, or there was none.
        """
        self._wait_for_end()
        if self.error is not None:
            raise self.error
        if self._run is None or self._run.report is None:
            raise WriteError(f"{self.path}: nothing was recorded yet.")
        return self._run.report

    def close(self) -> None:
        """End the recording if one is open; waits for a run that is still going.

        Raises
        ------
        WriteError
            If the recording failed.
        """
        self._wait_for_end()
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._end_early(error)
            return
        try:
            self.close()
        except Exception:
            raise
        except BaseException as interrupt:
            self._end_early(interrupt)
            raise

    @contextmanager
    def connected(self, core: CMMCorePlus) -> Iterator[Self]:
        """Connect directly to the signals of `core`, for the block.

        A slow disk then holds the camera back instead of filling the memory. On leaving, the
        end of the run is waited for, and what went wrong is raised. Works on any thread, that
        of a Qt application included, whose loop goes on while the end is waited for.
        """
        before, self._core = self._core, weakref.ref(core)
        try:
            with connected_directly(core.mda.events, self), self:
                yield self
                self._wait_for_end()
        finally:
            self._core = before

    def _end_early(self, error: BaseException) -> None:
        """Cancel the run because of `error`, and end it; every frame that came is kept."""
        run = self._run
        if run is None or run.finished:
            return
        run.cancel_softly(WriteError(f"{run.path}: ended by {type(error).__name__}: {error}"))
        if not isinstance(error, Exception):
            run.interrupt()
        while not (run.finished or run.given_up):
            try:
                self._wait_for_end()
            except BaseException:  # Ctrl-C once more; `error` is on its way anyway
                run.interrupt()

    def _wait_for_end(self) -> None:
        """Wait while frames may still come; then close what nobody closed."""
        run = self._run or self._await_run()
        if run is not None and not run.finished:
            if self._direct is None:
                self._follow(run)
            run.finish()
        if self._interrupted is not None:
            interrupt, self._interrupted = self._interrupted, None
            raise interrupt

    def _follow(self, run: Run) -> None:
        while not (run.wait(0.05) or run.given_up) and self._backlog.is_coming():
            let_application_live()
        if run.finishing:
            return
        if self._backlog.only_end_is_missing(self.current_sequence, run.tally.canceled):
            self.sequenceFinished(self.current_sequence)
            return
        self._finish_open_run(
            "the end of the sequence was never announced (another handler of the run may have "
            "raised)"
        )

    def _await_run(self) -> Run | None:
        """Return the first run, if one is about to begin: ``run_mda`` returns before it does."""
        deadline = time.monotonic() + RUN_BEGINS_S
        while self._run is None and self._refused is None:
            core = self._own_core
            if any_core(core) is None:
                return None
            # looked at before the run: a busy machine may take all that time between the two
            is_late = time.monotonic() > deadline
            if may_begin(self, core) or self._backlog.is_coming():
                deadline = time.monotonic() + RUN_BEGINS_S
            elif is_late:
                return self._run
            let_application_live()
            time.sleep(0.01)
        return self._run
