"""The page: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mda_writers._version import __version__
from mda_writers.errors import RecordingError
from mda_writers.recording.files import main_path
from mda_writers.report.facts import DAMAGED, gather
from mda_writers.report.html import Html, el, join, name
from mda_writers.report.pictures import pictures_section
from mda_writers.report.plots import drift_section, load_section, timing_section, values_section
from mda_writers.report.sections import (
    frames_section,
    integrity_section,
    metadata_section,
    overview,
)
from mda_writers.report.session import Line, Session, open_session, session_part
from mda_writers.storage.files import replace_bytes

if TYPE_CHECKING:
    from mda_writers.report.facts import Facts


def write_report_page(
    path: str | Path, output: str | Path | None = None, *, verify: bool | None = None
) -> Path:
    """Write the HTML report of a recording, or of all recordings in a session's folder.

    Works for recordings that are complete, that were interrupted, and that are still running.

    Parameters
    ----------
    path : path-like
        A recording, any of its files, or a folder.
    output : path-like, optional
        The page; by default ``<name>_report.html`` beside the recording, or ``report.html`` in
        the folder (``report-2.html`` for ``manifest-2.json``). An older page of that name is
        replaced.
    verify : bool, optional
        Whether to read every frame back and compare it with its checksum; by default only where
        that takes less than about a second.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    CorruptRecordingError
        If nothing can be said about it.
    """
    return write_page(path, output, verify=verify)[0]


def write_page(
    path: str | Path, output: str | Path | None = None, *, verify: bool | None = None
) -> tuple[Path, bool]:
    """Write the page, as `write_report_page`; return also whether all could be read."""
    path = Path(path).expanduser().absolute()
    try:
        main = main_path(path)
    except FileNotFoundError:
        return _write_session(open_session(path), output, verify)
    facts = gather(main, verify=verify)
    target = _target(output, main.with_name(f"{main.name}_report.html"))
    replace_bytes(target, page(main.name, recording_part(facts)).encode())
    return target, facts.state != DAMAGED


def recording_part(facts: Facts, *, level: int = 1, anchor: str | None = None) -> Html:
    """Return all that the page says about one recording, its heading at `level`."""
    top, inner = f"h{level}", f"h{level + 1}"
    return el(
        "article",
        overview(facts, top),
        pictures_section(facts, inner),
        frames_section(facts, inner),
        timing_section(facts, inner),
        load_section(facts, inner),
        values_section(facts, inner),
        drift_section(facts, inner),
        integrity_section(facts, inner),
        metadata_section(facts, inner),
        id=anchor,
    )


def _write_session(
    session: Session, output: str | Path | None, verify: bool | None
) -> tuple[Path, bool]:
    lines, parts = [], []
    for n, recording in enumerate(session.recordings):
        line, part = _session_recording(session, recording, f"recording-{n}", verify)
        lines.append(line)
        parts.append(part)
    manifest = session.stored.path.name if session.stored else "manifest.json"
    own = manifest.replace("manifest", "report").removesuffix(".json") + ".html"
    target = _target(output, session.folder / own)
    content = page(session.folder.name, session_part(session, lines), *parts)
    replace_bytes(target, content.encode())
    damaged = any(line.problem or line.state == DAMAGED for line in lines)
    return target, not (damaged or session.lost or session.damaged)


def _session_recording(
    session: Session, path: Path, anchor: str, verify: bool | None
) -> tuple[Line, Html]:
    """Return a recording's line in the list and its part of the page; damage is reported there."""
    shown = _relative(path, session.folder)
    device = session.devices.get(path, "")
    try:
        facts = gather(path, verify=verify, share=len(session.recordings))
    except (RecordingError, OSError) as error:
        text = el("ul", el("li", error), class_="problems")
        part = el("article", el("header", el("h2", name(shown)), text), id=anchor)
        return Line(anchor, shown, device, problem="unreadable"), part
    part = recording_part(facts, level=2, anchor=anchor)
    return Line.of(facts, anchor, shown, device), part


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def page(title: str, *content: Html) -> str:
    """Return a complete page."""
    style, script = _resource("page.css"), _resource("page.js")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        # nothing is fetched from anywhere, and no script runs but the one below
        el("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{title} – recording report"),
        el("style", Html(style)),
    )
    body = el("body", el("main", *content, _footer()), el("script", Html(script)))
    return "<!doctype html>\n" + el("html", head, body, lang="en") + "\n"


def _target(output: str | Path | None, default: Path) -> Path:
    return default if output is None else Path(output).expanduser().absolute()


def _resource(file: str) -> str:
    return (files("mda_writers.report") / file).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    )


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _footer() -> Html:

    now = datetime.now(UTC).astimezone().isoformat(" ", "seconds")
    return join([el("footer", f"Written by mda-writers {__version__} on {now}.")])
