"""What a session's manifest says, as a model that any JSON reader understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import BaseModel, Field, ValidationError

from mda_writers.acquisition.moment import Moment
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_indented_json, to_json
from mda_writers.model.names import stays_inside
from mda_writers.model.versions import versions
from mda_writers.sinks.seal import is_intact, seal_and_close
from mda_writers.storage.atomic import replace_bytes
from mda_writers.storage.failure import explained
from mda_writers.storage.lock import this_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mda_writers.acquisition.naming import SessionInfo

Status = Literal["recording", "finished", "canceled", "failed", "interrupted", "crashed"]
"""``recording``: the session goes on, or its process was killed: a killed process cannot say so,
but `Manifest.process` tells which one it was, and readers get ``crashed`` when it is gone.
``finished``: it ended as meant. ``canceled``: a run was cancelled. ``failed``: something raised.
``interrupted``: Ctrl-C, or the program ended before the session did."""

RecordingStatus = Literal["recording", "complete", "incomplete", "canceled", "failed", "unknown"]


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
    """What a pixel, a plane and a time point measure; None or empty where nobody said."""

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
    """Both clocks at the beginning and at the end: their distance tells if one was set."""

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
