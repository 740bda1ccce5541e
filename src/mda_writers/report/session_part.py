"""The head of the page about a session: its recordings, logs, notes, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from mda_writers.report.html import Html, el, figures, join, name, number, table
from mda_writers.report.metadata import metadata_blocks
from mda_writers.report.overview import chip, duration
from mda_writers.storage.space import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mda_writers.acquisition.stored import StoredAcquisition
    from mda_writers.report.facts import Facts
    from mda_writers.report.session import Session

ROWS = 1000
"""Notes and timestamps that are listed."""


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
    """Return the head of the page, and the sections that belong to the session as a whole."""
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
        table("What each device told, a row at a time", heads, rows),
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
