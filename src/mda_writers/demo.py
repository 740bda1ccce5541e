"""The demo: Micro-Manager's demo devices are recorded with every writer, and a session."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import useq

from mda_writers.acquisition.acquisition import Acquisition
from mda_writers.dataset.opening import open_dataset
from mda_writers.recording.verify import verify
from mda_writers.report.page import write_report_page
from mda_writers.writers.record import record
from mda_writers.writers.tiff import BigTiffWriter
from mda_writers.writers.video import CV2Writer
from mda_writers.writers.zarr import OMEZarrWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

    from mda_writers.acquisition.stored import StoredAcquisition
    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.base import MDAWriter


__all__ = ["SEQUENCE", "DemoResult", "Finding", "demo_core", "run_demo"]

SEQUENCE = useq.MDASequence(
    axis_order="tpcz",
    stage_positions=[
        useq.Position(x=0, y=0, z=0, name="centre"),
        useq.Position(x=200, y=0, z=2, name="right"),
        useq.Position(x=200, y=200, z=4, name="corner"),
    ],
    channels=[
        useq.Channel(config="DAPI", exposure=5),
        useq.Channel(config="FITC", exposure=10),
    ],
    z_plan=useq.ZRangeAround(range=4, step=1),
    time_plan=useq.TIntervalLoops(interval=0, loops=3),
)
"""Three positions, two channels, five planes, three time points: 90 frames of 512 × 512."""

LOOK_AGAIN_S = 0.005

SESSION_SEQUENCE = useq.MDASequence(
    channels=["FITC"], time_plan=useq.TIntervalLoops(interval=0.02, loops=20)
)
HEIGHT, WIDTH = 96, 128
FRAME_S = 1 / 60


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
        The report of the recordings, and that of the session.
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


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, as a sentence, and whether it is what it should be."""

    text: str
    fine: bool


@contextmanager
def demo_core(config: str = "demo.cfg") -> Iterator[CMMCorePlus]:
    """Give a core with the simulated microscope, and let go of it in the end."""
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    try:
        core.loadSystemConfiguration(str(_configuration(config)))
        yield core
    finally:
        core.unloadAllDevices()
        # MMCore reports events on a separate thread; if that still has something to report while
        # the interpreter shuts down, the process is aborted after its work was done well
        super(CMMCorePlus, core).registerCallback(None)


def _configuration(name: str) -> Path:
    """Return a configuration file, installed with the package or beside it in a checkout."""
    here = Path(__file__).parent
    installed = here / "mm_configs" / name
    return installed if installed.exists() else here.parent.parent / "mm_configs" / name


class Acquired:
    """Keeps every frame of a run, to compare with what is read back."""

    def __init__(self, core: CMMCorePlus) -> None:
        self._signal = core.mda.events.frameReady
        self.frames: list[tuple[Mapping[str, int], np.ndarray]] = []

    def __enter__(self) -> Acquired:
        self._signal.connect(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._signal.disconnect(self._keep)

    def _keep(self, frame: np.ndarray, event: MDAEvent, meta: Any) -> None:
        self.frames.append(({str(axis): i for axis, i in event.index.items()}, frame))

    def count_differing(self, path: Path) -> int:
        """Return how many frames of the recording at `path` differ from those acquired."""
        with open_dataset(path) as dataset:
            return sum(
                not np.array_equal(dataset.read_image(**index), frame)
                for index, frame in self.frames
            )


class Watcher:
    """Reads each frame of a recording as soon as it is on disk, on a separate thread.

    A context manager: at its end the recording has ended, and all of it was seen.

    Attributes
    ----------
    seen : int
        Frames that were read.
    blank : int
        Those of them that held nothing but zeros, which the demo's camera never gives.
    """

    def __init__(self, writer: MDAWriter) -> None:
        self._writer = writer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="demo-watcher")
        self.seen = 0
        self.blank = 0

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._writer.frames_written:
            if self._over.wait(LOOK_AGAIN_S):
                return
        with open_dataset(self._writer) as dataset:
            coords: Any
            for coords in dataset.follow():
                self.seen += 1
                self.blank += not np.any(dataset.read_image(**coords))


def record_session(root: Path, core: CMMCorePlus) -> StoredAcquisition:
    """Record a session below `root`, and open it again.

    Raises
    ------
    Exception
        Whatever went wrong with any of its devices.
    """
    with Acquisition(root, subject="demo", session=1, task="wheel") as acq:
        acq.writer("meso", ".ome.tiff")
        camera = _EyeCamera(acq, acq.writer("eye", ".mp4", direct=True, fps=60))
        acq.note("the mouse runs")
        with camera:
            acq.record(core, SESSION_SEQUENCE, progress=False)
        acq.note("the mouse rests")
    return Acquisition.open(acq.folder)


class _EyeCamera:
    """Films a pupil that wanders, and notes where the wheel is at each frame."""

    def __init__(self, acq: Acquisition, writer: MDAWriter) -> None:
        self._acq = acq
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._film, name="demo-eye")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _film(self) -> None:
        with self._acq.keeping_errors():
            self._writer.begin(WIDTH, HEIGHT, is_color=False, dtype="uint8", camera="eye")
            number = 0
            while not self._stop.wait(FRAME_S):
                self._writer.add_frame(_eye(number))
                self._acq.log("wheel", {"position": 3 * number}, device_time=number * FRAME_S)
                number += 1
            self._writer.finish()


def _eye(number: int) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH), 160, np.uint8)
    centre = (WIDTH // 2 + round(20 * np.sin(number / 9)), HEIGHT // 2)
    cv2.circle(picture, centre, 24, 30, thickness=-1)
    return picture
