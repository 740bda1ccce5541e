"""Recover: give an interrupted recording the end that it did not live to see."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import useq
from pydantic import ValidationError

from mda_writers.batch.stored_plan import locator_of
from mda_writers.model.frame import Frame
from mda_writers.recording.finalize import finish_files
from mda_writers.recording.formats_table import format_of
from mda_writers.recording.replaced import settle_all
from mda_writers.recording.reporting import Tally, build_report, write_report
from mda_writers.recording.stored import StoredRecording, lock_journal, main_path
from mda_writers.sinks.journal import Journal
from mda_writers.sinks.sidecar import (
    journal_path,
    read_extra_metadata,
    recording_path,
    sidecar_path,
    write_sidecar,
)
from mda_writers.storage.block_file import is_abandoned_probe, is_probe
from mda_writers.storage.file_system import sync_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.model.locate import Locator
    from mda_writers.model.report import RecordingReport

_TORN = re.compile(r"\.(?P<name>.+)\.(\d+\.tmp|partial)")
"""How files are called while they are made."""

INTERRUPTED = "The program ended before the recording did; its files were completed afterwards."


def recover(
    path: str | Path, *, storage_options: Mapping[str, Any] | None = None
) -> RecordingReport:
    """Complete an interrupted recording, as far as its frames had reached the disk.

    Writes the final form of the files, the sidecar and the report that a normal end writes; the
    recording stays what it is, incomplete. One that is complete already is left alone. Where a
    recording was killed while it replaced another one, the new one stays if it has a frame, else
    the old one is put back. May itself be killed at any moment, and repeated.

    Parameters
    ----------
    path : path-like
        The recording, or any of its files. Of a recording in an object store: its journal, or
        its name in the folder of that.
    storage_options : mapping, optional
        For an object store, as `OMEZarrWriter` took them: they are never written down. Without
        them, credentials and endpoint come from the environment.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    WriteError
        If it is still being written; if its journal is cut before the first frame, or altered.
    """
    settle_all(Path(path).expanduser().absolute())
    main = main_path(Path(path))
    if not journal_path(main).exists():
        return _report_of(main)
    lock = lock_journal(main)
    try:
        _sweep(main)
        if recording_path(main).exists():
            report = _report_of(main)
        else:
            report = _complete(main, dict(storage_options or {}))
    finally:
        if lock is not None:
            lock.release()
    if sidecar_path(main).exists():
        journal_path(main).unlink(missing_ok=True)
        sync_folder(main.parent)
    return report


def _sweep(main: Path) -> None:
    """Remove what a killed process was making: files that never got their names.

    The lock is ours. What lies in the recording's folders, or is named after its files, was made
    by its own process, or by another `recover`; both are dead.
    """
    stored = StoredRecording.find(main)
    files = [file for image in stored.images.values() for file in image.all_files]
    projections = stored.header.get("projections") or main.name
    roots = {PurePosixPath(file).parts[0] for file in (*files, projections, main.name)}
    names = {*roots, sidecar_path(main).name, recording_path(main).name}
    for file in main.parent.glob(".*"):
        torn = _TORN.fullmatch(file.name)
        if (torn and torn["name"] in names) or is_abandoned_probe(file.name):
            file.unlink(missing_ok=True)
    for root in roots - {"..", "/"}:
        for file in (main.parent / root).rglob(".*"):
            if _TORN.fullmatch(file.name) or is_probe(file.name):
                file.unlink(missing_ok=True)


def _report_of(main: Path) -> RecordingReport:
    report = StoredRecording.find(main).report
    assert report is not None  # there is a file with it
    return report


def _complete(main: Path, storage_options: dict[str, Any]) -> RecordingReport:
    """Do what the normal end does, from the journal alone."""
    header = Journal.read(journal_path(main)).header
    fmt = format_of({**header, "storage_options": storage_options})
    finished = finish_files(main, fmt, damaged=True)
    journal = Journal.read(journal_path(main))
    # a process that was killed at its end may have come as far as the sidecar
    extra = read_extra_metadata(sidecar_path(main))
    write_sidecar(journal_path(main), sidecar_path(main), extra)
    locator, tally = _counted(journal, main.name)
    tally.error = "\n".join([tally.error, *finished.problems])
    report = build_report(main, finished, locator, tally)
    write_report(main, report, finished, extra)
    return report


def _counted(journal: Journal, file_name: str) -> tuple[Locator, Tally]:
    """Go through the frames as they came: what they fill of the plan, and when they came."""
    locator = locator_of(journal.header, file_name)
    tally = Tally(error=INTERRUPTED)
    times: list[float] = []
    for key, frame in journal.frames():
        ours = frame["mda_writers"]
        saved = ours.get("saved", True)
        if saved and key not in journal.images:
            continue
        if saved:
            image = journal.images[key]
            # every pixel of it is one and the same: no memory, whatever the shape
            pixels = np.broadcast_to(np.zeros((), image.dtype), image.frame_shape)
        else:
            pixels = np.zeros((), np.uint8)
        locator.locate(Frame(pixels, ours["index"], frame, _event(frame)), saved)
        tally.frame_came(ours["index"], frame)
        tally.frames_received = max(tally.frames_received, ours["number"] + 1)
        times.append(ours["monotonic_s"])
        if not saved:
            tally.not_saved += 1
            continue
        tally.frames_written += 1
        tally.bytes_written += image.frame_bytes
    tally.intervals_s.extend(later - before for before, later in pairwise(times))
    tally.seconds = times[-1] - times[0] if times else 0.0
    return locator, tally


def _event(frame: Mapping[str, Any]) -> useq.MDAEvent | None:
    try:
        return useq.MDAEvent.model_validate(frame["mda_event"])
    except (KeyError, ValidationError):
        return None
