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
from mda_writers.writers.relay import is_busy
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
        if error is None:
            self.close()
            return
        if self._run is not None and not self._run.finished:
            reason = WriteError(f"{self._run.path}: ended by {kind.__name__}: {error}")
            self._run.cancel_softly(reason)
        self._wait_for_end()

    @contextmanager
    def connected(self, core: CMMCorePlus) -> Iterator[Self]:
        """Connect directly to the signals of `core`, for the block.

        A slow disk then holds the camera back instead of filling the memory. On leaving, the
        end of the run is waited for, and what went wrong is raised.
        """
        from pymmcore_plus.mda import mda_listeners_connected

        before, self._core = self._core, weakref.ref(core)
        try:
            with (
                self,
                mda_listeners_connected(self, mda_events=core.mda.events, asynchronous=False),
            ):
                yield self
                self._wait_for_end()
        finally:
            self._core = before

    def _wait_for_end(self) -> None:
        """Wait while frames may still come; then close what nobody closed."""
        run = self._run or self._await_run()
        if run is None or run.finished:
            return
        if self._direct is None:
            while not run.wait(0.05) and self._backlog.is_coming():
                pass
            if not run.finishing:
                self._finish_open_run(
                    "the end of the sequence was never announced (another handler of the run may "
                    "have raised)"
                )
        run.finish()

    def _await_run(self) -> Run | None:
        """Return the first run, if one is about to begin: ``run_mda`` returns before it does."""
        deadline = time.monotonic() + RUN_BEGINS_S
        while self._run is None and self._refused is None and time.monotonic() < deadline:
            core = self._running_core()
            if core is None:
                return None
            if is_busy(core) or self._backlog.is_coming():
                deadline = time.monotonic() + RUN_BEGINS_S
            time.sleep(0.01)
        return self._run
