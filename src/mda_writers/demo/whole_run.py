"""All that the demo does, step by step, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mda_writers.batch.verify import verify
from mda_writers.demo.acquired import Acquired
from mda_writers.demo.finding import Finding
from mda_writers.demo.microscope import SEQUENCE, demo_core
from mda_writers.demo.session import record_session
from mda_writers.demo.watcher import Watcher
from mda_writers.report.page import write_report_page
from mda_writers.writers.bigtiff import BigTiffWriter
from mda_writers.writers.cv2 import CV2Writer
from mda_writers.writers.ome_zarr import OMEZarrWriter
from mda_writers.writers.record import record

if TYPE_CHECKING:
    from mda_writers.acquisition.stored import StoredAcquisition
    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.mda_writer import MDAWriter


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo recorded.

    Attributes
    ----------
    folder : Path
        Where it is.
    findings : list of Finding
        What was tried, in order, and whether it went as it should.
    pages : list of Path
        The page about the recordings, and the one about the session.
    """

    folder: Path
    findings: list[Finding]
    pages: list[Path]


def run_demo(folder: Path, *, progress: bool = True) -> DemoResult:
    """Record a demo acquisition in `folder` with every writer, read it back, then a session.

    Raises
    ------
    FileExistsError
        If there is a demo in `folder` already.
    WriteError
        If a recording failed.
    """
    tiff = BigTiffWriter(folder / "demo.ome.tiff", max_projection=True)
    zarr = OMEZarrWriter(folder / "demo.ome.zarr", levels=3)
    film = CV2Writer(folder / "demo.mp4", contrast_limits="full")
    with demo_core() as core:
        with Acquired(core) as acquired, Watcher(tiff) as watcher:
            reports = record(core, SEQUENCE, [tiff, zarr, film], progress=progress)
        session = record_session(folder / "session", core)
    findings = [
        *(_written(report, len(acquired.frames)) for report in reports),
        _watched(watcher, len(acquired.frames)),
        *(_compared(writer, acquired) for writer in (tiff, zarr)),
        *(_verified(writer) for writer in (tiff, zarr, film)),
        _session(session),
    ]
    pages = [write_report_page(folder), write_report_page(session.folder)]
    return DemoResult(folder, findings, pages)


def _written(report: RecordingReport, frames: int) -> Finding:
    written = f"{report.frames_written} of {frames} frames on disk, {report.mb_per_s:.0f} MB/s"
    return Finding(f"{Path(report.path).name}: {written}", report.complete)


def _watched(watcher: Watcher, frames: int) -> Finding:
    fine = watcher.seen == frames and not watcher.blank
    return Finding(f"demo.ome.tiff: {watcher.seen} of {frames} frames seen as they came", fine)


def _compared(writer: MDAWriter, acquired: Acquired) -> Finding:
    frames, differing = len(acquired.frames), acquired.count_differing(writer.path)
    text = f"all {frames} frames read back as they were acquired"
    if differing:
        text = f"{differing} of {frames} frames read back differently"
    return Finding(f"{writer.path.name}: {text}", not differing)


def _verified(writer: MDAWriter) -> Finding:
    result = verify(writer.path, progress=False)
    return Finding(f"{writer.path.name}: verified, {result}", result.ok)


def _session(session: StoredAcquisition) -> Finding:
    devices = ", ".join(row["device"] for row in session.timestamps)
    text = f"session: {session.status}, with {devices} and {len(session.notes)} notes"
    return Finding(text, session.complete)
