"""A session: several devices recorded into one folder, ended together."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mda_writers.acquisition.devices import Devices
from mda_writers.acquisition.logs import (
    Moment,
    Timestamps,
    read_configuration,
    write_csv,
    write_json,
)
from mda_writers.acquisition.manifest import LiveManifest, first_manifest
from mda_writers.acquisition.naming import BidsPaths, SessionInfo, SessionNames
from mda_writers.acquisition.stored import StoredAcquisition, find_manifest
from mda_writers.errors import UnknownOptionError, WriteError, option_names, options_checked
from mda_writers.pymmcore import cancel_run
from mda_writers.writers.record import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from mda_writers.acquisition.logs import Notes
    from mda_writers.acquisition.naming import PathPolicy
    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.base import MDAWriter


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

    @options_checked("Acquisition")
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
        info = SessionInfo.begun_now(subject, session, task)
        self._names = SessionNames(Path(root).expanduser().absolute(), info, paths or BidsPaths())
        self._notes = self._names.notes
        self.manifest_path = self._names.path("manifest", ".json")
        manifest = first_manifest(self._names.info, started, metadata or {})
        self._book = LiveManifest(self.manifest_path, manifest)
        self._book.add_file("notes", self._notes.path)
        self._book.write()
        self._timestamps = Timestamps(self._own_path("timestamps", ".csv"))
        self._book.write()
        self._devices = Devices(self._names, self._timestamps, self._book)
        self._running = RunningCores()
        self._end = SessionEnd(self._book, self._devices, self._running, self._notes)

    @property
    def folder(self) -> Path:
        """The folder that the manifest is in."""
        return self.manifest_path.parent

    # ------------------------------------------------------------ devices

    def writer(
        self,
        device: str,
        suffix: str,
        *,
        data_type: str = "func",
        direct: bool = False,
        writer_class: type[MDAWriter] | None = None,
        **options: Any,
    ) -> MDAWriter:
        """Return a writer for a device, with a name that is free.

        Parameters
        ----------
        device : str
            What the device is called, in file names and in the manifest.
        suffix : str
            ``.ome.tiff``, ``.ome.zarr``, ``.mp4``, …: decides which writer it is.
        data_type : str
            The folder that the default path policy puts it into.
        direct : bool
            Whether you poll the camera yourself and use ``begin``, ``add_frame`` and
            ``finish``; `record` then leaves the writer alone.
        writer_class : type, optional
            Another class of writer instead.
        **options
            Of the writer.

        Raises
        ------
        ValueError
            If no writer knows the suffix.
        """
        try:
            return self._devices.add_writer(
                device, suffix, data_type, direct, writer_class, options
            )
        except UnknownOptionError as error:
            ours = option_names(Acquisition.writer)
            raise UnknownOptionError(error.who, error.name, {*error.known, *ours}) from None

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
            Who saves it; by default every writer of the session that is not ``direct``.
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
            # not before: from here on, the end of the session waits for us
            self._devices.check_open()
            with self._devices.taken(writers) as chosen:
                self.save_configuration(core, sequence)
                with self._book.remembering():
                    record(core, sequence, [p.writer for p in chosen], progress=progress)
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
        self._devices.log(device, now).append(payload, device_time, now)

    def note(self, text: str) -> None:
        """Write a note with its time; it would survive a power cut on return.

        Raises
        ------
        WriteError
            If it could not be written.
        """
        self._devices.check_open()
        self._notes.add(text)

    def save_configuration(
        self, core: CMMCorePlus, sequence: MDASequence | Iterable[MDAEvent] | None = None
    ) -> None:
        """Write devices, properties and the sequence as JSON and as CSV; `record` does it.

        A device that cannot be asked does not stop the recording: what went wrong is raised at
        the end of the session.
        """
        self._devices.check_open()
        with self._book.remembering():
            found = read_configuration(core, sequence)
            write_json(self._own_path("configuration", ".json"), found)
            write_csv(self._own_path("configuration", ".csv"), found)
            system = found.get("system_info") or {}
            self._book.add_versions({k: v for k, v in system.items() if v and "version" in k})

    def keeping_errors(self) -> AbstractContextManager[None]:
        """Return a context manager for a device's own thread.

        What its block raises ends the block, and is raised again at the end of the session;
        it would go unnoticed otherwise, as a thread has no caller to raise to.
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
        if self._end.end():
            self._end.raise_errors()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._book.remember(error)
            self._end.cancel_runs()
        if self._end.end():
            self._end.raise_errors(error)

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

    def _own_path(self, role: str, suffix: str) -> Path:
        """Return the path of a file of the session itself."""
        path = self._names.path(role, suffix)
        self._book.add_file(role, path)
        return path


class RunningCores:
    """The cores that run something for a session."""

    def __init__(self) -> None:
        self._cores: list[CMMCorePlus] = []
        self._changed = threading.Condition()

    @contextmanager
    def running(self, core: CMMCorePlus) -> Iterator[None]:
        """Count `core` among them for the block."""
        with self._changed:
            self._cores.append(core)
        try:
            yield
        finally:
            with self._changed:
                self._cores.remove(core)
                self._changed.notify_all()

    def wait(self) -> None:
        """Return when none is left."""
        with self._changed:
            while self._cores:
                self._changed.wait(0.1)  # a wait without a limit hears no Ctrl-C on Windows

    def cancel(self) -> None:
        """Cancel all runs; every frame that was acquired is still written."""
        with self._changed:
            cores = list(self._cores)
        for core in cores:
            cancel_run(core)


class SessionEnd:
    """Ends a session once: at the end of its block, by ``close``, or with the program.

    Parameters
    ----------
    book : LiveManifest
        Keeps what went wrong, and writes the last manifest.
    devices : Devices
        Are closed.
    running : RunningCores
        Are waited for.
    notes : Notes
        Are closed last: as long as they are held, the session goes on.
    """

    def __init__(
        self, book: LiveManifest, devices: Devices, running: RunningCores, notes: Notes
    ) -> None:
        self._book = book
        self._devices = devices
        self._running = running
        self._notes = notes
        _still_open.add(self)

    def end(self) -> bool:
        """Close everything, and write the last manifest; False if that was done before."""
        if not self._devices.shut():
            return False
        self._do(self._running.wait)
        for close in self._devices.closes():
            self._do(close)
        self._book.end()
        self._notes.close()
        _still_open.discard(self)
        return True

    def cancel_runs(self) -> None:
        """Cancel what still runs; every frame that was acquired is still written."""
        self._running.cancel()
        self._devices.cancel_runs()  # run_mda(output=writer)

    def raise_errors(self, raising: BaseException | None = None) -> None:
        """Raise what went wrong, unless it is only `raising`, which is on its way anyway."""
        errors = self._book.errors
        if not errors or (len(errors) == 1 and errors[0] is raising):
            return
        if len(errors) == 1:
            raise errors[0]
        raise BaseExceptionGroup(f"{self._book.path.parent}: the session failed", errors)

    def _do(self, step: Callable[[], None]) -> None:
        """Do a step of the end; what it raises is kept, and Ctrl-C cancels what it waits for."""
        while True:
            try:
                with self._book.remembering():
                    step()
                return
            except BaseException:
                self.cancel_runs()

    def _end_with_the_program(self) -> None:
        """End a session that was not closed; the interpreter exits."""
        folder = self._book.path.parent
        try:
            self._book.interrupted = True
            self._book.remember(
                WriteError(f"{folder}: the program ended before the session was closed.")
            )
            self.cancel_runs()
            self.end()
        except Exception:
            _logger.exception("%s: could not be ended.", folder)


_still_open: set[SessionEnd] = set()


@atexit.register
def _end_all() -> None:
    for session in list(_still_open):
        session._end_with_the_program()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_still_open.clear)  # they are the parent's
