"""The page: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mda_writers.report.charts import drift_section, load_section, timing_section, values_section
from mda_writers.report.facts import gather
from mda_writers.report.html import Html, el, join
from mda_writers.report.integrity import integrity_section
from mda_writers.report.metadata import metadata_section
from mda_writers.report.overview import frames_section, overview
from mda_writers.report.pictures import pictures_section
from mda_writers.storage.atomic import replace_bytes

if TYPE_CHECKING:
    from mda_writers.report.facts import Facts

ROWS = 16
"""Channels of images that have thumbnails: four pictures each, some three megabytes in all."""


def write_report_page(
    path: str | Path, output: str | Path | None = None, *, verify: bool | None = None
) -> Path:
    """Write a page about a recording, or about all recordings of a session's folder.

    Works for recordings that are complete, that were interrupted, and that are still running.

    Parameters
    ----------
    path : path-like
        A recording, any of its files, or a folder.
    output : path-like, optional
        The page; by default ``<name>_report.html`` beside the recording, or ``report.html`` in
        the folder. An older page of that name is replaced.
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
        If nothing can be told about it.
    """
    path = Path(path).expanduser().absolute()
    facts = gather(path, verify=verify, most_rows=ROWS)
    target = _target(output, facts.path.with_name(f"{facts.path.name}_report.html"))
    replace_bytes(target, page(facts.path.name, recording_part(facts)).encode())
    return target


def recording_part(facts: Facts, *, level: int = 1) -> Html:
    """Return all that the page tells about one recording, its heading at `level`."""
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
    )


def page(title: str, *content: Html) -> str:
    """Return a whole page."""
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


def _resource(name: str) -> str:
    return (files("mda_writers.report") / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    )


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _footer() -> Html:
    from mda_writers import __version__

    now = datetime.now(UTC).astimezone().isoformat(" ", "seconds")
    return join([el("footer", f"Written by mda-writers {__version__} on {now}.")])
