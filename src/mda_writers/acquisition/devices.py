"""The devices of a session: cameras with a writer, others with a table of values."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mda_writers.acquisition.logs import Moment, csv_line
from mda_writers.acquisition.manifest import Calibration, Producer, Recording, entries, place
from mda_writers.errors import WriteError
from mda_writers.model.encode import csv_cell, from_csv_cell
from mda_writers.model.report import RecordingReport
from mda_writers.recording.files import StoredRecording
from mda_writers.storage.files import LineFile
from mda_writers.writers import writer_for
from mda_writers.writers.base import MDAWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mda_writers.acquisition.logs import Span, Timestamps
    from mda_writers.acquisition.manifest import LiveManifest, RecordingStatus
    from mda_writers.acquisition.naming import SessionNames


CLOCKS = ("unix_time_s", "monotonic_s", "device_time")
OTHER = "other"
"""The last column: what a row has and the first one had not, as JSON."""


class Devices:
    """Every writer and every log of a session. All methods may be called from any thread.

    Parameters
    ----------
    names : SessionNames
        Gives each of them a place.
    timestamps : Timestamps
        Is notified when one begins and ends.
    book : LiveManifest
        Tells the manifest of them.
    """

    def __init__(self, names: SessionNames, timestamps: Timestamps, book: LiveManifest) -> None:
        self._names = names
        self._timestamps = timestamps
        self._book = book
        self._writers: list[WriterProducer] = []
        self._logs: dict[str, LogProducer] = {}
        self._lock = threading.Lock()
        self._is_open = True

    def check_open(self) -> None:
        """Raise WriteError if the session is closed."""
        if not self._is_open:
            raise WriteError(
                f"{self._book.path.parent}: the session is closed. Begin another Acquisition."
            )

    def shut(self) -> bool:
        """Take no more devices from now on; return whether they were taken until now."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
            return was_open

    # ------------------------------------------------------------ writers

    def add_writer(
        self,
        device: str,
        suffix: str,
        data_type: str,
        direct: bool,
        writer_class: type[MDAWriter] | None,
        options: dict[str, Any],
    ) -> MDAWriter:
        """Return a writer whose name is free; see `Acquisition.writer`."""
        self.check_open()
        make = writer_class or writer_for(suffix)
        writer = make(self._names.path(device, suffix, data_type), **options)
        producer = WriterProducer(
            device, data_type, writer, direct, self._timestamps, self._book.changed
        )
        with self._lock:
            self.check_open()
            self._writers.append(producer)
        self._book.add_source(producer)
        return writer

    @contextmanager
    def taken(
        self, writers: MDAWriter | Iterable[MDAWriter] | None
    ) -> Iterator[list[WriterProducer]]:
        """Give those who save a run, so that no other run is given them within the block.

        Raises
        ------
        ValueError
            If there is none, one is of another session, or one is recording already.
        """
        chosen = self._take(writers)
        try:
            yield chosen
        finally:
            for producer in chosen:
                producer.is_taken = False

    def cancel_runs(self) -> None:
        """Cancel the runs that feed the writers, and no other."""
        for producer in list(self._writers):
            producer.writer._cancel_run()

    def _take(self, writers: MDAWriter | Iterable[MDAWriter] | None) -> list[WriterProducer]:
        with self._lock:
            chosen = self._asked_for(writers)
            if not chosen:
                raise ValueError('record: no writer. Call acq.writer("camera", ".ome.tiff") first.')
            busy = [p.device for p in chosen if p.is_recording or p.is_taken]
            if busy:
                raise ValueError(
                    f"record: {', '.join(busy)} is recording already. Give direct=True to a "
                    "writer whose camera you poll yourself, or pass writers=."
                )
            for producer in chosen:
                producer.is_taken = True
        return chosen

    def _asked_for(self, writers: MDAWriter | Iterable[MDAWriter] | None) -> list[WriterProducer]:
        if writers is None:
            return [producer for producer in self._writers if not producer.direct]
        known = {id(producer.writer): producer for producer in self._writers}
        each = [writers] if isinstance(writers, MDAWriter) else list(writers)
        if any(id(writer) not in known for writer in each):
            raise ValueError("record: every writer must be one that acq.writer() returned.")
        return [known[id(writer)] for writer in each]

    # ------------------------------------------------------------ logs

    def log(self, device: str, now: Moment) -> LogProducer:
        """Return the log of a device; the first call makes it."""
        return self._logs.get(device) or self._new_log(device, now)

    def _new_log(self, device: str, now: Moment) -> LogProducer:
        with self._lock:
            self.check_open()
            if device not in self._logs:
                path = self._names.path(device, ".csv", "beh")
                log = LogProducer(device, "beh", path, self._timestamps, now)
                self._book.add_source(log)
                self._logs[device] = log
            return self._logs[device]

    # ------------------------------------------------------------ the end

    def closes(self) -> list[Callable[[], None]]:
        """Return how each of them is closed, writers first."""
        return [p.close for p in self._writers] + [log.close for log in self._logs.values()]


class WriterProducer:
    """A writer of the session, watched: its recordings, and what went wrong with them.

    Parameters
    ----------
    device, data_type : str
        As the user gave them.
    writer : MDAWriter
        Who writes; reports the beginning and the end of its recordings here.
    direct : bool
        Whether its camera is polled.
    timestamps : Timestamps
        Is notified when a recording begins and ends.
    changed : callable
        Called after each change, with the error if there was one; on any thread.
    """

    def __init__(
        self,
        device: str,
        data_type: str,
        writer: MDAWriter,
        direct: bool,
        timestamps: Timestamps,
        changed: Callable[[BaseException | None], None],
    ) -> None:
        self.device = device
        self.writer = writer
        self.direct = direct
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
        writer.on_begin, writer.on_end = self.begun, self.ended

    # ------------------------------------------------------------ called by the writer

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
        except Exception:  # there is no report on disk either; the writer's error says why
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


class LogProducer:
    """A log of the session.

    Parameters
    ----------
    device, data_type : str
        As the user gave them.
    path : Path
        The log's file, which must not exist.
    timestamps : Timestamps
        Is notified when the first row came, and when the last one.
    now : Moment
        When the first row came.
    """

    def __init__(
        self, device: str, data_type: str, path: Path, timestamps: Timestamps, now: Moment
    ) -> None:
        self.device = device
        self._data_type = data_type
        self._timestamps = timestamps
        self._span = timestamps.start(device, now)
        self._log = DeviceLog(path)

    def append(self, payload: Any, device_time: Any, now: Moment) -> None:
        """Write one row; see `DeviceLog.append`."""
        self._log.append(payload, device_time, now)

    def close(self) -> None:
        """Close the log.

        Raises
        ------
        WriteError
            If a row was refused, or the disk does not take the rest.
        """
        self._log.close()
        self._timestamps.stop(self._span, self._log.last or Moment.now())
        if self._log.error is not None:
            raise self._log.error

    def entry(self, folder: Path) -> Producer:
        """Return what is known now, with paths relative to `folder`."""
        log = self._log
        status: RecordingStatus = "complete" if log.closed else "recording"
        recording = Recording(
            status="failed" if log.error else status,
            complete=log.closed and not log.error,
            rows_written=log.rows,
            rows_refused=log.refused,
            error=str(log.error or ""),
            started=self._span.started,
            stopped=self._span.stopped,
            files=entries([log.path], folder),
            **place(log.path, folder),
        )
        return Producer(
            device=self.device,
            kind="log",
            data_type=self._data_type,
            written_by=type(log).__name__,
            complete=recording.complete,
            error=recording.error,
            recordings=[recording],
        )


class DeviceLog:
    """A CSV file of one device; nothing of it is held in memory.

    The first payload decides the columns: its keys, or ``payload`` for a single value.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.refused = 0
        self.error: WriteError | None = None
        self.last: Moment | None = None
        self.closed = False
        self._names: list[str] = []
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = LineFile(path)

    def append(self, payload: Any, device_time: Any, now: Moment) -> None:
        """Write one row.

        Raises
        ------
        WriteError
            If the disk takes no more, or the log is closed. After the first failure every row is
            refused, so that none stands behind half a row.
        """
        named = _named(payload)
        with self._lock:
            if self.error is not None or self.closed:
                self.refused += 1
                raise self.error or WriteError(f"{self.path}: the session is closed.")
            try:
                if not self._names:
                    self._begin(named)
                self._file.append(self._row(named, device_time, now))
            except WriteError as error:
                self.error = error
                self.refused += 1
                raise
            self.rows += 1
            self.last = now

    def close(self) -> None:
        """Let go of the file; what is in it would survive a power cut."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            try:
                self._file.sync()
            except OSError as error:
                self.error = self.error or WriteError(f"{self.path}: {error}")
            finally:
                self._file.close()

    def _begin(self, named: dict[str, Any]) -> None:
        self._names = list(named)
        columns = [f"payload.{n}" if n in (*CLOCKS, OTHER) else n for n in self._names]
        self._file.append(csv_line([*CLOCKS, *columns, OTHER]))

    def _row(self, named: dict[str, Any], device_time: Any, now: Moment) -> bytes:
        other = {name: value for name, value in named.items() if name not in self._names}
        values = [named.get(name) for name in self._names]
        clocks = (now.unix_time_s, now.monotonic_s, device_time)
        return csv_line([*clocks, *values, other or None])


def _named(payload: Any) -> dict[str, Any]:
    """Return the payload's values by column."""
    try:
        named = dict(payload) if isinstance(payload, Mapping) else {}
    except Exception:  # a live object, as it may be anywhere
        named = {}
    columns: dict[str, Any] = {}
    for key, value in named.items():
        name = from_csv_cell(csv_cell(key))
        while name in columns:  # {1: …, "1": …}
            name += "_"
        columns[name] = value
    return columns or {"payload": payload}
