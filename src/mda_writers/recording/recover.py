"""Finish a recording that was interrupted, from its journal."""

from __future__ import annotations

import re
import warnings
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import useq
from pydantic import TypeAdapter, ValidationError

from mda_writers.formats.base import format_of
from mda_writers.model.direct import DirectPlan
from mda_writers.model.frame import Frame
from mda_writers.model.locate import Locator
from mda_writers.model.microscope import Camera, MicroscopeInfo
from mda_writers.model.plan import PlannedImage
from mda_writers.recording.files import (
    StoredRecording,
    journal_path,
    lock_journal,
    main_path,
    recording_path,
    sidecar_path,
)
from mda_writers.recording.finish import Tally, build_report, finish_files, write_report
from mda_writers.recording.journal import Journal
from mda_writers.recording.replaced import settle_all
from mda_writers.recording.sidecar import read_extra_metadata, write_sidecar
from mda_writers.storage.block_file import is_abandoned_probe, is_probe, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mda_writers.model.report import RecordingReport


_TORN = re.compile(r"\.(?P<name>.+)\.(\d+\.tmp|partial)")
"""How files are called while they are made."""

INTERRUPTED = "The program ended before the recording did; its files were completed afterwards."

PLANNED = "planned_images"
"""The header's entry for a plan that neither a sequence nor ``begin`` describes."""

CAMERAS = "planned_cameras"
"""The cameras of such a plan, where each has images of its own."""


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


def locator_of(header: Mapping[str, Any], file_name: str) -> Locator:
    """Return the locator that a recording began with.

    Parameters
    ----------
    header : mapping
        Of its journal or its ``_recording.json``.
    file_name : str
        The name of its file.
    """
    if PLANNED in header:
        planned = _PLANNED.validate_python(header[PLANNED])
        cameras = _CAMERAS.validate_python(header.get(CAMERAS, ()))
        return Locator(planned, MicroscopeInfo(cameras=tuple(cameras) or (Camera(""),)), file_name)
    direct = header.get("direct")
    if direct is not None:
        names = tuple(direct["channels"])
        plan = DirectPlan(
            1, 1, None, None, direct["sizes"], names, None, None, None, direct["camera"]
        )
        return plan.locator(file_name)
    microscope = MicroscopeInfo.from_summary(header.get("summary_metadata") or {})
    sequence = sequence_of(header)
    if sequence is None:
        return Locator([], microscope, file_name)
    return Locator.of_sequence(sequence, microscope, file_name)


def sequence_of(header: Mapping[str, Any]) -> useq.MDASequence | None:
    """Return the sequence of a recording; None where there was none of known length."""
    if header.get("sequence") is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # useq said what it thinks of the plan at its time
            return useq.MDASequence.model_validate(header["sequence"])
    except ValidationError:
        # written by another useq: the frames are worth more than the list of missing ones
        return None


def planned_entry(images: Iterable[PlannedImage], cameras: Iterable[Camera] = ()) -> dict[str, Any]:
    """Return a plan as entries of a header."""
    return {
        PLANNED: [asdict(image) for image in images],
        CAMERAS: [asdict(camera) for camera in cameras],
    }


_PLANNED = TypeAdapter(list[PlannedImage])
_CAMERAS = TypeAdapter(list[Camera])
