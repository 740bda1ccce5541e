"""The manifest of a session: every file, true at every moment."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson
from pydantic import BaseModel, Field, ValidationError

from mda_writers.acquisition.logs import Moment
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_indented_json, to_json
from mda_writers.model.names import stays_inside
from mda_writers.model.versions import versions
from mda_writers.recording.journal import is_intact, seal_and_close
from mda_writers.storage.disk_space import explained
from mda_writers.storage.files import content_hash, replace_bytes, this_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mda_writers.acquisition.naming import SessionInfo


_logger = logging.getLogger("mda_writers")

Status = Literal["recording", "finished", "canceled", "failed", "interrupted", "crashed"]
"""``recording``: the session goes on, or its process was killed: a killed process cannot say so,
but `Manifest.process` says which one it was, and readers get ``crashed`` when it is gone.
``finished``: it ended as meant. ``canceled``: a run was cancelled. ``failed``: something raised.
``interrupted``: Ctrl-C, or the program ended before the session did."""

RecordingStatus = Literal["recording", "complete", "incomplete", "canceled", "failed", "unknown"]


class Source(Protocol):
    """A device that the manifest lists."""

    def entry(self, folder: Path) -> Producer:
        """Return what is known now, with paths relative to `folder`."""


class LiveManifest:
    """Keeps a session's manifest true. All methods may be called from any thread.

    Parameters
    ----------
    path : Path
        The manifest's file.
    manifest : Manifest
        What is known at the beginning.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.interrupted = False
        self._manifest = manifest
        self._files: list[tuple[str, Path]] = []
        self._sources: list[Source] = []
        self._errors: list[BaseException] = []
        self._lock = threading.RLock()

    def add_file(self, role: str, path: Path) -> None:
        """Take in a file of the session itself; it is named as soon as it exists."""
        with self._lock:
            self._files.append((role, path))

    def add_source(self, source: Source) -> None:
        """Take in a device."""
        with self._lock:
            self._sources.append(source)
            self.write()

    def add_versions(self, found: Mapping[str, str]) -> None:
        """Add the versions that a microscope reported."""
        with self._lock:
            self._manifest.versions.update(found)

    def changed(self, error: BaseException | None = None) -> None:
        """Take in that something began or ended, and what went wrong with it; never raises."""
        if error is not None:
            self.remember(error)
        try:
            self.write()
        except Exception as failure:
            self.remember(failure)

    def remember(self, error: BaseException) -> None:
        """Keep an error for the end of the session, each only once."""
        with self._lock:
            for leaf in _leaves(error):
                self.interrupted |= not isinstance(leaf, Exception)
                if not any(leaf is known for known in self._errors):
                    self._errors.append(leaf)
                    _logger.error("%s: %s", self.path.parent, describe(leaf))

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep what the block raises for the end; an interrupt goes on at once."""
        try:
            yield
        except BaseException as error:
            self.remember(error)
            if not isinstance(error, Exception):
                raise

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong so far."""
        with self._lock:
            return list(self._errors)

    def write(self) -> None:
        """Write the manifest as of now."""
        with self._lock:
            manifest, folder = self._manifest, self.path.parent
            manifest.producers = [source.entry(folder) for source in self._sources]
            manifest.files = [
                entry for role, file in self._files for entry in entries([file], folder, role)
            ]
            manifest.errors = [describe(error) for error in self._errors]
            manifest.write(self.path)

    def end(self) -> None:
        """Write what became of the session, then the same with the hashes of all files."""
        try:
            self.write()  # as of now: the status follows from it
            self._manifest.time_basis.stopped = Moment.now()
            self._conclude()
            # may take minutes, and may be interrupted: the manifest is true before and after
            with suppress(BaseException), self.remembering():
                hash_all(self._manifest, self.path.parent)
            self._conclude()
        except BaseException as error:
            self.remember(error)

    def _conclude(self) -> None:
        manifest = self._manifest
        manifest.status = self._status()
        manifest.complete = manifest.status == "finished" and all(
            producer.complete for producer in manifest.producers
        )
        manifest.errors = [describe(error) for error in self._errors]
        manifest.write(self.path)

    def _status(self) -> Status:
        if self.interrupted:
            return "interrupted"
        recordings = [r for p in self._manifest.producers for r in p.recordings]
        if self._errors or any(r.status == "failed" for r in recordings):
            return "failed"
        if any(r.status == "canceled" for r in recordings):
            return "canceled"
        return "finished"


def describe(error: BaseException) -> str:
    """Return an error on one line or more, as a manifest shows it."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the errors of a group one by one."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


class FileEntry(BaseModel):
    """A file, or a folder such as that of a Zarr store, that exists.

    Attributes
    ----------
    path : str
        Relative to the manifest, with forward slashes.
    role : str
        Of the session's own files: ``notes``, ``timestamps``, ``configuration``.
    size_bytes : int or None
        Of a folder: that of its files. None while it grows.
    xxh3_128 : str or None
        Hash of the content, of a folder as ``storage.hashing`` says; None until the end.
    """

    path: str
    role: str = ""
    size_bytes: int | None = None
    xxh3_128: str | None = None


class Calibration(BaseModel):
    """What a pixel, a plane and a time point measure; None or empty where it is not known."""

    pixel_size_um: float | None = None
    z_step_um: float | None = None
    time_interval_s: float | None = None
    objective: str = ""
    magnification: float | None = None
    bit_depth: int | None = None
    cameras: list[str] = []


class Recording(BaseModel):
    """One recording of a device, or one log.

    Attributes
    ----------
    name : str
        What every file of it is called after. With several positions no file has just this name.
    folder : str
        Where they are, relative to the manifest, with forward slashes.
    files : list of FileEntry
        All of its files, from its end on. Until then some come and go: whatever was said here, a
        killed process might leave it untrue.
    """

    name: str = ""
    folder: str = ""
    status: RecordingStatus = "recording"
    complete: bool = False
    frames_expected: int | None = None
    frames_received: int | None = None
    frames_written: int | None = None
    frames_missing: int | None = None
    frames_skipped: int | None = None
    rows_written: int | None = None
    rows_refused: int | None = None
    error: str = ""
    started: Moment | None = None
    stopped: Moment | None = None
    calibration: Calibration | None = None
    files: list[FileEntry] = []


class Producer(BaseModel):
    """One device with what it recorded; `complete` only if it recorded, and all of it."""

    device: str
    kind: Literal["frames", "log"]
    data_type: str = ""
    written_by: str = ""
    complete: bool = False
    error: str = ""
    recordings: list[Recording] = []


class TimeBasis(BaseModel):
    """Both clocks at the beginning and at the end: their difference shows if one was set."""

    wall_clock: str = "time.time(), seconds since 1970-01-01T00:00:00Z"
    monotonic_clock: str = "time.perf_counter() of this process; shared by all devices"
    started: Moment
    stopped: Moment | None = None


class SessionEntry(BaseModel):
    """The names that the user gave, unchanged."""

    subject: str
    session: str
    task: str
    run: int = 1


class Manifest(BaseModel):
    """All that is known about a session; `complete` is true only if every recording is.

    Attributes
    ----------
    process : dict
        The process that writes the session: ``pid``, ``started_unix_s``, ``host``.
    files : list of FileEntry
        The session's own files: notes, timestamps, configuration.
    errors : list of str
        All that went wrong.
    """

    format: Literal["mda-writers session"] = "mda-writers session"
    format_version: int = 1
    status: Status = "recording"
    complete: bool = False
    session: SessionEntry
    time_basis: TimeBasis
    producers: list[Producer] = []
    files: list[FileEntry] = []
    errors: list[str] = []
    metadata: dict[str, Any] = {}
    process: dict[str, Any] = {}
    versions: dict[str, str] = Field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file at `path`, all or nothing.

        Raises
        ------
        WriteError
            If the disk does not take it; the file is then what it was.
        """
        # not pydantic's own JSON: that refuses the lone surrogates that a name or an error may hold
        content = seal_and_close(to_indented_json(self.model_dump()).rstrip()[:-2]) + b"\n"
        try:
            replace_bytes(path, content)
        except OSError as error:
            raise explained(error, path, len(content)) from error

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises
        ------
        FileNotFoundError
            If there is none.
        CorruptRecordingError
            If the file is something else, altered since it was written, or names a file that
            does not lie in its folder.
        """
        content = path.read_bytes()
        if not is_intact(content):
            raise CorruptRecordingError(f"{path}: altered since it was written.")
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as error:
            raise CorruptRecordingError(f"{path}: not the manifest of a session ({error}).") from (
                error
            )
        elsewhere = [name for name in manifest._names() if not stays_inside(name)]
        if elsewhere:
            raise CorruptRecordingError(
                f"{path}: altered. It names the file {elsewhere[0]!r}, and the files of a session "
                f"lie in {path.parent} or below. Nothing there was touched."
            )
        return manifest

    def _names(self) -> Iterator[str]:
        """Return all that is said to be a file or a folder of the session."""
        yield from (entry.path for entry in self.files)
        for recording in (each for producer in self.producers for each in producer.recordings):
            yield from (entry.path for entry in recording.files)
            if recording.folder != ".":  # the manifest's own
                yield recording.folder
            if recording.name:
                yield recording.name


def first_manifest(info: SessionInfo, started: Moment, metadata: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a session that begins."""
    return Manifest(
        session=SessionEntry(
            subject=info.subject, session=info.session, task=info.task, run=info.run
        ),
        time_basis=TimeBasis(started=started),
        metadata=orjson.loads(to_json(dict(metadata))),
        process=this_process(),
        versions=dict(versions()),
    )


def entries(files: Iterable[Path], folder: Path, role: str = "") -> list[FileEntry]:
    """Return an entry for each of `files` that exists, with the size of what is a plain file."""
    found = []
    for file in dict.fromkeys(files):
        if file.exists():
            size = None if file.is_dir() else file.stat().st_size
            found.append(FileEntry(path=relative(file, folder), role=role, size_bytes=size))
    return found


def place(path: Path, folder: Path) -> dict[str, str]:
    """Return the name and the folder of a recording, as its entry has them."""
    return {"name": path.name, "folder": relative(path.parent, folder)}


def relative(file: Path, folder: Path) -> str:
    """Return the way from `folder` to `file`, with forward slashes."""
    return os.path.relpath(file, folder).replace(os.sep, "/")


def hash_all(manifest: Manifest, folder: Path) -> None:
    """Fill in the sizes and the hashes of all files of `manifest`; those that are gone leave it.

    A file of a series may be moved away as soon as it is complete.
    """
    owners: list[Manifest | Recording] = [manifest]
    owners += [recording for producer in manifest.producers for recording in producer.recordings]
    for owner in owners:
        owner.files = [entry for entry in owner.files if _hash(entry, folder)]


def _hash(entry: FileEntry, folder: Path) -> bool:
    """Fill in the size and the hash; return whether there is such a file."""
    try:
        entry.size_bytes, entry.xxh3_128 = content_hash(folder / entry.path)
    except FileNotFoundError:
        return False
    return True
