"""The parts of the page about the files: which there are, and whether they are what was written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mda_writers.recording.reporting import files_of
from mda_writers.report.facts import RUNNING
from mda_writers.report.html import Html, el, name, number, table
from mda_writers.sinks.sidecar import journal_path, recording_path, sidecar_path
from mda_writers.storage.hashing import files_in
from mda_writers.storage.space import human_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.batch.verify_result import VerifyResult
    from mda_writers.report.facts import Facts

FAULTS_LISTED = 100
FILES_LISTED = 500


def integrity_section(facts: Facts, heading: str) -> Html:
    """Return the result of reading everything back, and the files."""
    result = facts.verified
    if result is None:
        told = _not_verified(facts)
    elif result.intact and not facts.is_readable:
        told = _not_read()
    else:
        told = _verified(result)
    return el("section", el(heading, "Integrity"), told, _files(facts))


def _not_verified(facts: Facts) -> Html:
    how = (
        "A recording that goes on can be verified when it has ended."
        if facts.state == RUNNING
        else "“mda-writers verify” reads every frame back and compares it with its checksum."
    )
    return el("p", el("strong", "Not verified.", data_integrity="not verified"), " ", how)


def _not_read() -> Html:
    return el(
        "p",
        el("span", "Damaged", class_="chip bad", data_integrity="damaged"),
        " Not all of it could be read; what is said at the top of the page.",
    )


def _verified(result: VerifyResult) -> Html:
    read = f"{result.frames_checked:,} frames ({human_bytes(result.bytes_read)}) were read back"
    if result.intact:
        return el(
            "p",
            el("span", "Intact", class_="chip ok", data_integrity="intact"),
            f" {read}; each is what was written.",
        )
    faults = [
        (number(fault.number), name(fault.key), name(fault.file), fault.what)
        for fault in result.faults[:FAULTS_LISTED]
    ]
    missing = [(name(file), "missing") for file in result.files_missing]
    damaged = [(name(file), what) for file, what in result.files_damaged.items()]
    return el(
        "div",
        el(
            "p",
            el("span", "Damaged", class_="chip bad", data_integrity="damaged"),
            f" {read}. Not what was written: ",
            number(result.frames_faulty, data_figure="frames_faulty"),
            ".",
        ),
        table("Files", ("File", "What"), [*missing, *damaged]) if missing or damaged else None,
        table("Frames", ("Frame", "Image", "File", "What"), faults) if faults else None,
    )


def _files(facts: Facts) -> Html:
    main = facts.path
    paths = files_of(main, (file for image in facts.images for file in image.all_files))
    paths += [f(main) for f in (sidecar_path, recording_path, journal_path)]
    existing = [path for path in paths if path.exists()]
    rows = [(name(path.name), _size(path)) for path in existing[:FILES_LISTED]]
    more = len(existing) - len(rows)
    caption = f"Files in {main.parent.name}" + (f" (and {more} more)" if more else "")
    return table(caption, ("File", "Size"), rows)


def _size(path: Path) -> Html:
    size = sum(map(_bytes, files_in(path) if path.is_dir() else [path]))
    return number(size, human_bytes(size))


def _bytes(file: Path) -> int:
    with suppress(FileNotFoundError):  # while a recording goes on, files are replaced
        return file.stat().st_size
    return 0
