"""What a writer recorded, followed while it records and told to the manifest."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mda_writers.acquisition.file_entries import entries, place
from mda_writers.acquisition.manifest import Calibration, Producer, Recording
from mda_writers.acquisition.moment import Moment
from mda_writers.model.report import RecordingReport
from mda_writers.recording.stored import StoredRecording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mda_writers.acquisition.manifest import RecordingStatus
    from mda_writers.acquisition.timestamps import Span, Timestamps
    from mda_writers.writers.mda_writer import MDAWriter


class WriterProducer:
    """A writer of the session, watched: its recordings, and what went wrong with them.

    Parameters
    ----------
    device, data_type : str
        As the user gave them.
    writer : MDAWriter
        Who writes; this becomes its watcher.
    own_loop : bool
        Whether its camera has a loop of its own.
    timestamps : Timestamps
        Is told when a recording begins and ends.
    changed : callable
        Called after each change, with the error if there was one; on any thread.
    """

    def __init__(
        self,
        device: str,
        data_type: str,
        writer: MDAWriter,
        own_loop: bool,
        timestamps: Timestamps,
        changed: Callable[[BaseException | None], None],
    ) -> None:
        self.device = device
        self.writer = writer
        self.own_loop = own_loop
        self.report: RecordingReport | None = None
        self.is_recording = False
        self.is_taken = False  # by a run that is about to begin, or goes on
        self._data_type = data_type
        self._timestamps = timestamps
        self._changed = changed
        self._ended: list[tuple[Recording, Path, list[Path]]] = []
        self._path = writer.path
        self._span: Span | None = None
        self._lock = threading.Lock()
        writer.watcher = self

    # ------------------------------------------------------------ RecordingWatcher

    def begun(self, path: Path) -> None:
        """Note the beginning of a recording."""
        error = None
        with self._lock:
            self.is_recording, self.report, self._path = True, None, path
            try:
                self._span = self._timestamps.start(self.device, Moment.now())
            except Exception as failure:  # a recording goes on without its timestamp
                error = failure
        self._changed(error)

    def ended(self, path: Path) -> None:
        """Note what became of a recording."""
        error: BaseException | None = self.writer.error
        now = Moment.now()
        with self._lock:
            recording, files = self._outcome(path)
            if self._span is not None:
                recording.started, recording.stopped = self._span.started, now
                try:
                    self._timestamps.stop(self._span, now)
                except Exception as failure:
                    error = error or failure
            self._ended.append((recording, path, files))
            self._span, self.is_recording = None, False
        self._changed(error)

    # ------------------------------------------------------------ for the manifest

    def entry(self, folder: Path) -> Producer:
        """Return what is known now, with paths relative to `folder`."""
        with self._lock:
            told = [
                recording.model_copy(
                    update={"files": entries(files, folder), **place(path, folder)}
                )
                for recording, path, files in self._ended
            ]
            if self.is_recording:
                told.append(self._in_progress(folder))
        return Producer(
            device=self.device,
            kind="frames",
            data_type=self._data_type,
            written_by=type(self.writer).__name__,
            complete=bool(told) and all(recording.complete for recording in told),
            error=str(self.writer.error or ""),
            recordings=told,
        )

    def close(self) -> None:
        """End the recording if one is open; see ``MDAWriter.close``."""
        self.writer.close()

    def result(self) -> RecordingReport:
        """Return the report of the last recording, also of one that failed."""
        return self.report or RecordingReport(
            path=str(self.writer.path),
            complete=False,
            frames_expected=self.writer.frames_expected,
            frames_received=self.writer.frames_received,
            frames_written=self.writer.frames_written,
            error=str(self.writer.error or "nothing was recorded"),
        )

    def _in_progress(self, folder: Path) -> Recording:
        return Recording(
            frames_expected=self.writer.frames_expected,
            started=self._span.started if self._span else None,
            **place(self._path, folder),
        )

    def _outcome(self, path: Path) -> tuple[Recording, list[Path]]:
        """Return what the disk says about the recording at `path`, and its files."""
        writer = self.writer
        try:
            stored = StoredRecording.find(path)
        except Exception:  # it could not even be told on disk; the writer's error says why
            stored = None
        self.report = report = stored.report if stored else None
        if stored is None or report is None:
            failed = Recording(
                status="failed",
                frames_expected=writer.frames_expected,
                frames_received=writer.frames_received,
                frames_written=writer.frames_written,
                error=str(writer.error or f"{path}: the recording has no report."),
            )
            return failed, list(writer.paths)
        told = _told(report, stored.header.get("layout"))
        return told, [path.parent / name for name in report.paths]


def _told(report: RecordingReport, layout: Any) -> Recording:
    return Recording(
        status=_status(report),
        complete=report.complete,
        frames_expected=report.frames_expected,
        frames_received=report.frames_received,
        frames_written=report.frames_written,
        frames_missing=report.frames_missing,
        frames_skipped=len(report.skipped),
        error=report.error,
        calibration=Calibration.model_validate(layout or {}),
    )


def _status(report: RecordingReport) -> RecordingStatus:
    if report.error:
        return "failed"
    if report.canceled:
        return "canceled"
    return "complete" if report.complete else "incomplete"
