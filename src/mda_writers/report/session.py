"""The HTML report of a session."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mda_writers.acquisition.stored import StoredAcquisition, find_manifest, manifests_in
from mda_writers.errors import CorruptRecordingError
from mda_writers.recording.files import RECORDING_SUFFIX, main_path
from mda_writers.recording.journal import JOURNAL_SUFFIX
from mda_writers.report.html import Html, el, figures, join, name, number, table
from mda_writers.report.sections import chip, duration, metadata_blocks
from mda_writers.storage.disk_space import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mda_writers.report.facts import Facts


MOST_RECORDINGS = 200
"""Recordings on one page; the report of more says so."""

ROWS = 1000
"""Notes and timestamps that are listed."""


@dataclass(frozen=True, slots=True)
class Session:
    """The recordings below a folder.

    Attributes
    ----------
    folder : Path
        The folder.
    stored : StoredAcquisition or None
        The session, if the folder has a manifest of one.
    recordings : list of Path
        Main paths, in the order of the manifest, then by name.
    devices : dict
        Main path → the device that the manifest names for it.
    lost : list of (str, str)
        Device and file of recordings that the manifest names and that are not there.
    problems : list of str
        What could not be read, and why.
    """

    folder: Path
    stored: StoredAcquisition | None
    recordings: list[Path]
    devices: dict[Path, str] = field(default_factory=dict)
    lost: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    damaged: bool = False


def open_session(path: Path) -> Session:
    """Return what there is in a folder, or beside a manifest.

    Raises
    ------
    FileNotFoundError
        If there is neither a manifest nor a recording.
    CorruptRecordingError
        If `path` is a file, and no manifest.
    """
    problems: list[str] = []
    if not path.is_dir() and path.suffix != ".json":
        raise _nothing_at(path)
    folder = (path if path.is_dir() else path.parent).absolute()
    stored = _stored(path, problems)
    session = Session(folder, stored, [], problems=problems, damaged=bool(problems))
    if stored is not None:
        _take_devices(stored, session)
    others = _of_other_sessions(stored) if stored is not None else set()
    below = (path for path in _recordings_below(folder) if path not in others)
    found = list(dict.fromkeys([*session.devices, *below]))
    if stored is None and not found:
        raise _nothing_at(path)
    session.recordings.extend(found[:MOST_RECORDINGS])
    if len(found) > MOST_RECORDINGS:
        session.problems.append(
            f"The folder holds {len(found):,} recordings; this page is about the first "
            f"{MOST_RECORDINGS}."
        )
    return session


def _nothing_at(path: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f"{path}: no recording of mda-writers, and no folder that holds one or a session's "
        "manifest. Give the recording's name as it was given to its writer."
    )


def _stored(path: Path, problems: list[str]) -> StoredAcquisition | None:
    try:
        return StoredAcquisition(find_manifest(path))
    except FileNotFoundError:
        return None
    except (ValueError, CorruptRecordingError) as error:
        if not path.is_dir():
            raise
        problems.append(f"{error} This page is about every recording in the folder.")
        return None


def _take_devices(stored: StoredAcquisition, session: Session) -> None:
    for producer in stored.manifest.producers:
        for recording in producer.recordings if producer.kind == "frames" else ():
            main = stored.path_of(recording)
            if _is_there(main):
                session.devices[main] = producer.device
            elif recording.files:
                session.lost.append((producer.device, recording.files[0].path))


def _is_there(main: Path) -> bool:
    try:
        return main_path(main) == main
    except FileNotFoundError:
        return False


def _of_other_sessions(stored: StoredAcquisition) -> set[Path]:
    """Return the recordings that the manifests of other sessions in the same folder name."""
    found: set[Path] = set()
    for file in manifests_in(stored.folder):
        if file == stored.path:
            continue
        with suppress(OSError, CorruptRecordingError):
            other = StoredAcquisition(file)
            found.update(other.path_of(r) for p in other.manifest.producers for r in p.recordings)
    return found


def _recordings_below(folder: Path) -> list[Path]:
    found: set[Path] = set()
    for here, folders, files in os.walk(folder):
        # a store has a folder for each of a million chunks, and no recording in it
        folders[:] = [each for each in folders if not each.endswith(".zarr")]
        for suffix in (RECORDING_SUFFIX, JOURNAL_SUFFIX):
            names = (file.removesuffix(suffix) for file in files if file.endswith(suffix))
            found.update(Path(here) / name for name in names)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Line:
    """What the list of recordings says of one; numbers are None where it cannot be read."""

    anchor: str
    name: str
    device: str
    state: str = ""
    problem: str = ""
    frames_written: int | None = None
    frames_expected: int | None = None
    nbytes: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, facts: Facts, anchor: str, shown: str, device: str) -> Line:
        """Return the line of a recording that could be read."""
        return cls(
            anchor,
            shown,
            device,
            state=facts.state,
            frames_written=facts.frames_written,
            frames_expected=facts.frames_expected,
            nbytes=facts.bytes_written,
            seconds=facts.seconds,
        )


def session_part(session: Session, lines: Sequence[Line], heading: str = "h1") -> Html:
    """Return the head of the page, and the sections that belong to the complete session."""
    stored = session.stored
    parts: list[Html | None] = [
        el(
            "header",
            el(heading, name(_title(session))),
            el("p", *_sentence(session, lines), class_="lead"),
            _problems(session),
            figures(_numbers(session, lines)),
        ),
        _recordings(session, lines),
    ]
    if stored is not None:
        parts += [_logs(stored), _notes(stored), _timestamps(stored), _metadata(stored)]
    return el("article", *(part for part in parts if part is not None))


def _title(session: Session) -> str:
    if session.stored is None:
        return session.folder.name
    entry = session.stored.manifest.session
    return f"Subject {entry.subject}, session {entry.session}, task {entry.task}"


def _sentence(session: Session, lines: Sequence[Line]) -> Iterable[object]:
    complete = sum(line.state == "complete" for line in lines)
    count = f"{complete} of {len(lines)} recordings are complete."
    if session.stored is None:
        return [f"{count} This folder is not that of one session."]
    status = session.stored.status
    kind = {"recording": "busy", "finished": "ok"}.get(status, "bad")
    if status == "finished" and not session.stored.complete:
        kind = "bad"
    return [el("span", status.capitalize(), class_=f"chip {kind}", data_status=status), f" {count}"]


def _problems(session: Session) -> Html | None:
    told = list(session.problems)
    told += session.stored.manifest.errors if session.stored is not None else []
    told += [
        f"{device}: {file} is in the manifest, and not there." for device, file in session.lost
    ]
    return el("ul", *(el("li", each) for each in told), class_="problems") if told else None


def _numbers(session: Session, lines: Sequence[Line]) -> Iterable[tuple[str, object]]:
    yield "Recordings", number(len(lines), data_figure="recordings")
    frames = sum(line.frames_written or 0 for line in lines)
    yield "Frames on disk", number(frames, data_figure="session_frames_written")
    size = sum(line.nbytes or 0 for line in lines)
    yield "Size", number(size, human_bytes(size))
    if session.stored is not None:
        basis = session.stored.manifest.time_basis
        yield "Started", el("time", basis.started.time[:19].replace("T", " "))
        if basis.stopped is not None:
            seconds = basis.stopped.monotonic_s - basis.started.monotonic_s
            yield "Duration", number(seconds, duration(seconds))


def _recordings(session: Session, lines: Sequence[Line]) -> Html:
    rows = [
        (
            el("a", name(line.name), href=f"#{line.anchor}"),
            name(line.device or "–"),
            chip(line.state) if line.state else line.problem,
            number(line.frames_written),
            number(line.frames_expected),
            number(line.nbytes, human_bytes(line.nbytes or 0)),
            number(line.seconds, None if line.seconds is None else duration(line.seconds)),
        )
        for line in lines
    ]
    heads = ("Recording", "Device", "State", "On disk", "Planned", "Size", "Duration")
    content = table(f"Recordings in {session.folder.name}", heads, rows)
    return el("section", el("h2", "Recordings"), content)


def _logs(stored: StoredAcquisition) -> Html | None:
    rows = [
        (
            name(producer.device),
            name(", ".join(file.path for file in log.files)),
            number(log.rows_written),
            number(log.rows_refused),
            log.error or log.status,
        )
        for producer in stored.manifest.producers
        if producer.kind == "log"
        for log in producer.recordings
    ]
    if not rows:
        return None
    heads = ("Device", "File", "Rows", "Refused", "State")
    return el(
        "section",
        el("h2", "Logs of other devices"),
        table("What each device reported, row by row", heads, rows),
    )


def _notes(stored: StoredAcquisition) -> Html | None:
    rows = [(each["time"], each["note"]) for each in islice(_read(stored, "notes"), ROWS)]
    if not rows:
        return None
    return el("section", el("h2", "Notes"), table("As they were taken", ("Time", "Note"), rows))


def _timestamps(stored: StoredAcquisition) -> Html | None:
    rows = [_span(row) for row in islice(_read(stored, "timestamps"), ROWS)]
    if not rows:
        return None
    heads = ("Device", "Started", "Stopped", "Duration")
    content = table("When each device recorded", heads, rows)
    return el("section", el("h2", "Timestamps"), content)


def _span(row: dict[str, str]) -> tuple[object, ...]:
    """Return when a device began and ended; what did not end has no duration."""
    try:
        seconds = float(row["stopped_monotonic_s"]) - float(row["started_monotonic_s"])
    except (KeyError, ValueError):
        lasted = "–"
    else:
        lasted = duration(seconds)
    moments = (row.get(key, "")[:23].replace("T", " ") for key in ("started", "stopped"))
    return name(row.get("device", "")), *(moment or "–" for moment in moments), lasted


def _read(stored: StoredAcquisition, what: str) -> Iterable[dict[str, str]]:
    """Return the rows of a file that may be gone, or damaged."""
    try:
        rows: list[dict[str, str]] = getattr(stored, what)
    except (OSError, ValueError, KeyError):
        return []
    return rows


def _metadata(stored: StoredAcquisition) -> Html:
    content = stored.manifest.model_dump(mode="json")
    return el("section", el("h2", "Manifest"), join(metadata_blocks({"Manifest": content})))
