"""`Acquisition`: one session, its devices, and a folder that tells the truth about them."""

from __future__ import annotations

import atexit
import logging
import threading
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mda_writers.acquisition.book import SessionBook
from mda_writers.acquisition.configuration import read_configuration, write_csv, write_json
from mda_writers.acquisition.manifest import first_manifest
from mda_writers.acquisition.moment import Moment
from mda_writers.acquisition.naming import BidsPaths, SessionInfo
from mda_writers.acquisition.producers import LogProducer, WriterProducer
from mda_writers.acquisition.running import RunningCores
from mda_writers.acquisition.session_names import SessionNames
from mda_writers.acquisition.stored import StoredAcquisition, find_manifest
from mda_writers.acquisition.timestamps import Timestamps
from mda_writers.acquisition.writer_classes import writer_class as class_for
from mda_writers.errors import WriteError
from mda_writers.writers.mda_writer import MDAWriter
from mda_writers.writers.record import record
from mda_writers.writers.relay import cancel_run, running_core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from mda_writers.acquisition.naming import PathPolicy
    from mda_writers.model.report import RecordingReport

_logger = logging.getLogger("mda_writers")


class Acquisition:
    """One session: a folder with the recordings of all devices, notes, clocks and a manifest.

    Use it as a context manager. What goes wrong with one device does not stop the others; at the
    end everything that went wrong is raised, several errors as an ``ExceptionGroup``. All methods
    may be called from any thread.

    Parameters
    ----------
    root : path-like
        Where sessions go; missing folders are made.
    subject, session, task : str or int
        What this session is called.
    metadata : mapping, optional
        Anything else about the session (experimenter, protocol, …); goes into the manifest.
    paths : PathPolicy, optional
        Where each file goes; by default `BidsPaths`.

    Raises
    ------
    ValueError
        If a name is empty, or the path policy leaves the root.
    OSError
        If the folder cannot be written to.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        subject: str | int,
        session: str | int,
        task: str | int,
        metadata: Mapping[str, Any] | None = None,
        paths: PathPolicy | None = None,
    ) -> None:
        started = Moment.now()
        info = _info(subject, session, task)
        self._names = SessionNames(Path(root).expanduser().absolute(), info, paths or BidsPaths())
        self._notes = self._names.notes
        self.manifest_path = self._names.path("manifest", ".json")
        manifest = first_manifest(self._names.info, started, metadata or {})
        self._book = SessionBook(self.manifest_path, manifest)
        self._book.add_file("notes", self._notes.path)
        self._book.write()
        self._timestamps = Timestamps(self._own_path("timestamps", ".csv"))
        self._book.write()
        self._writers: list[WriterProducer] = []
        self._logs: dict[str, LogProducer] = {}
        self._running = RunningCores()
        self._lock = threading.Lock()
        self._is_open = True
        _open_sessions.add(self)

    @property
    def folder(self) -> Path:
        """The folder that the manifest lies in."""
        return self.manifest_path.parent

    # ------------------------------------------------------------ devices

    def writer(
        self,
        device: str,
        suffix: str,
        *,
        data_type: str = "func",
        own_loop: bool = False,
        writer_class: type[MDAWriter] | None = None,
        **options: Any,
    ) -> MDAWriter:
        """Return a writer for a device, with a name of its own.

        Parameters
        ----------
        device : str
            What the device is called, in file names and in the manifest.
        suffix : str
            ``.ome.tiff``, ``.ome.zarr``, ``.mp4``, …: decides which writer it is.
        data_type : str
            The folder that the default path policy puts it into.
        own_loop : bool
            Whether the camera has a loop of its own and uses ``begin``, ``add_frame`` and
            ``finish``; `record` then leaves the writer alone.
        writer_class : type, optional
            A writer of a user's own instead.
        **options
            Of the writer.

        Raises
        ------
        ValueError
            If no writer knows the suffix.
        """
        self._check_open()
        make = writer_class or class_for(suffix)
        writer = make(self._names.path(device, suffix, data_type), **options)
        producer = WriterProducer(
            device, data_type, writer, own_loop, self._timestamps, self._book.changed
        )
        with self._lock:
            self._writers.append(producer)
        self._book.add_source(producer)
        return writer

    def record(
        self,
        core: CMMCorePlus,
        sequence: MDASequence | Iterable[MDAEvent],
        writers: MDAWriter | Iterable[MDAWriter] | None = None,
        *,
        progress: bool = True,
    ) -> list[RecordingReport]:
        """Run `sequence` on `core` and save it; returns when all is on disk.

        Before it begins, the configuration of `core` is written. What goes wrong is in the
        reports, in the manifest, and raised at the end of the session, so that other devices can
        go on. Only Ctrl-C, which cancels the run, is raised at once.

        Parameters
        ----------
        core : CMMCorePlus
            The microscope.
        sequence : MDASequence or iterable of MDAEvent
            What to acquire.
        writers : MDAWriter or iterable of MDAWriter, optional
            Who saves it; by default every writer of the session that has no loop of its own.
        progress : bool
            Whether to show a progress bar.

        Returns
        -------
        list of RecordingReport
            One for each writer, in order.

        Raises
        ------
        ValueError
            If there is no writer, one is of another session, or one is recording already.
        """
        with self._running.running(core):
            self._check_open()  # not before: from here on, the end of the session waits for us
            chosen = self._chosen(writers)
            try:
                self.save_configuration(core, sequence)
                with self._book.remembering():
                    record(core, sequence, [p.writer for p in chosen], progress=progress)
            finally:
                for producer in chosen:
                    producer.is_taken = False
        return [producer.result() for producer in chosen]

    def log(self, device: str, payload: Any, *, device_time: Any = None) -> None:
        """Append a row to the CSV file of a device; a killed process does not lose it.

        Parameters
        ----------
        device : str
            What the device is called.
        payload : any
            A value, or a mapping of column names to values. The first call decides the columns;
            what a later one has besides goes into a last column, ``other``.
        device_time : any
            The device's own time of it.

        Raises
        ------
        WriteError
            If the disk does not take it; it is raised again at the end of the session.
        """
        now = Moment.now()
        log = self._logs.get(device) or self._new_log(device, now)
        log.append(payload, device_time, now)

    def note(self, text: str) -> None:
        """Write a note with its time; it would survive a power cut on return.

        Raises
        ------
        WriteError
            If it could not be written.
        """
        self._check_open()
        self._notes.add(text)

    def save_configuration(
        self, core: CMMCorePlus, sequence: MDASequence | Iterable[MDAEvent] | None = None
    ) -> None:
        """Write devices, properties and the sequence as JSON and as CSV; `record` does it.

        A device that cannot be asked keeps nobody from recording: what went wrong is raised at
        the end of the session.
        """
        self._check_open()
        with self._book.remembering():
            found = read_configuration(core, sequence)
            write_json(self._own_path("configuration", ".json"), found)
            write_csv(self._own_path("configuration", ".csv"), found)
            system = found.get("system_info") or {}
            self._book.add_versions({k: v for k, v in system.items() if v and "version" in k})

    def keeping_errors(self) -> AbstractContextManager[None]:
        """Return a context manager for a device's own thread.

        What its block raises ends the block, and is raised again at the end of the session;
        nobody would hear of it otherwise, as threads have nobody to raise to.
        """
        return self._book.remembering()

    # ------------------------------------------------------------ the end

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong so far."""
        return self._book.errors

    def close(self) -> None:
        """End the session: waits for runs that still go, closes all devices, hashes all files.

        Raises
        ------
        Exception
            All that went wrong since the beginning; several errors as an ``ExceptionGroup``.
        """
        if self._end():
            self._raise_all(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._book.remember(error)
            self._cancel_runs()
        if self._end():
            self._raise_all(error)

    @staticmethod
    def open(path: str | Path) -> StoredAcquisition:
        """Return the session at `path`, to read.

        Parameters
        ----------
        path : path-like
            The session's folder, or its manifest.

        Raises
        ------
        FileNotFoundError
            If there is no manifest.
        ValueError
            If the folder holds several.
        CorruptRecordingError
            If the file is no manifest.
        """
        return StoredAcquisition(find_manifest(Path(path)))

    # ------------------------------------------------------------ helpers, in order of use

    def _own_path(self, role: str, suffix: str) -> Path:
        """Return the path of a file of the session itself."""
        path = self._names.path(role, suffix)
        self._book.add_file(role, path)
        return path

    def _check_open(self) -> None:
        if not self._is_open:
            raise WriteError(f"{self.folder}: the session is closed. Begin another Acquisition.")

    def _chosen(self, writers: MDAWriter | Iterable[MDAWriter] | None) -> list[WriterProducer]:
        """Take the producers that a run is saved by, so that no other run is given them."""
        with self._lock:
            chosen = self._asked_for(writers)
            if not chosen:
                raise ValueError('record: no writer. Call acq.writer("camera", ".ome.tiff") first.')
            busy = [p.device for p in chosen if p.is_recording or p.is_taken]
            if busy:
                raise ValueError(
                    f"record: {', '.join(busy)} is recording already. Give own_loop=True to a "
                    "writer whose camera has a loop of its own, or pass writers=."
                )
            for producer in chosen:
                producer.is_taken = True
        return chosen

    def _asked_for(self, writers: MDAWriter | Iterable[MDAWriter] | None) -> list[WriterProducer]:
        if writers is None:
            return [producer for producer in self._writers if not producer.own_loop]
        known = {id(producer.writer): producer for producer in self._writers}
        each = [writers] if isinstance(writers, MDAWriter) else list(writers)
        if any(id(writer) not in known for writer in each):
            raise ValueError("record: every writer must be one that acq.writer() returned.")
        return [known[id(writer)] for writer in each]

    def _new_log(self, device: str, now: Moment) -> LogProducer:
        with self._lock:
            self._check_open()
            if device not in self._logs:
                path = self._names.path(device, ".csv", "beh")
                log = LogProducer(device, "beh", path, self._timestamps, now)
                self._book.add_source(log)
                self._logs[device] = log
            return self._logs[device]

    def _cancel_runs(self) -> None:
        """Cancel what still runs; every frame that was acquired is still written."""
        self._running.cancel()
        if any(p.is_recording and not p.own_loop for p in self._writers):
            cancel_run(running_core(None))  # run_mda(output=writer), on the global core

    def _end(self) -> bool:
        """Close everything, and write the last manifest; False if that was done before."""
        with self._lock:
            if not self._is_open:
                return False
            self._is_open = False
        self._do(self._running.wait)
        closes = [p.close for p in self._writers] + [log.close for log in self._logs.values()]
        for close in closes:
            self._do(close)
        self._book.end()
        self._notes.close()
        _open_sessions.discard(self)
        return True

    def _do(self, step: Callable[[], None]) -> None:
        """Do a step of the end; what it raises is kept, and Ctrl-C cancels what it waits for."""
        while True:
            try:
                with self._book.remembering():
                    step()
                return
            except BaseException:
                self._cancel_runs()

    def _raise_all(self, raising: BaseException | None) -> None:
        """Raise what went wrong, unless it is only what the block is raising anyway."""
        errors = self._book.errors
        if not errors or (len(errors) == 1 and errors[0] is raising):
            return
        if len(errors) == 1:
            raise errors[0]
        raise BaseExceptionGroup(f"{self.folder}: the session failed", errors)

    def _end_with_the_program(self) -> None:
        """End a session that nobody closed; the interpreter exits."""
        self._book.interrupted = True
        self._book.remember(
            WriteError(f"{self.folder}: the program ended before the session was closed.")
        )
        self._cancel_runs()
        self._end()


_open_sessions: set[Acquisition] = set()


@atexit.register
def _end_all() -> None:
    for session in list(_open_sessions):
        try:
            session._end_with_the_program()
        except Exception:
            _logger.exception("%s: could not be ended.", session.folder)


def _info(subject: str | int, session: str | int, task: str | int) -> SessionInfo:
    for name, value in (("subject", subject), ("session", session), ("task", task)):
        if not str(value).strip():
            raise ValueError(f"Acquisition: {name} is empty; give it a name.")
    return SessionInfo(str(subject), str(session), str(task), started=datetime.now())
