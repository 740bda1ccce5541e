"""The demo: a real Micro-Manager microscope, simulated by its own demo adapters, is recorded."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import useq

from mda_writers.dataset.opening import open_dataset
from mda_writers.report.page import write_report_page
from mda_writers.writers.bigtiff import BigTiffWriter
from mda_writers.writers.cv2 import CV2Writer
from mda_writers.writers.ome_zarr import OMEZarrWriter
from mda_writers.writers.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.mda_writer import MDAWriter

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


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo recorded.

    Attributes
    ----------
    folder : Path
        Where it is.
    reports : list of RecordingReport
        One for each writer.
    frames : int
        Frames that were acquired.
    differing : dict
        For each recording the number of frames that read back differently from what the camera
        gave; video is lossy and only counted.
    page : Path
        A page about all of it.
    """

    folder: Path
    reports: list[RecordingReport]
    frames: int
    differing: dict[str, int]
    page: Path


def run_demo(folder: Path, *, progress: bool = True) -> DemoResult:
    """Record a demo acquisition in `folder` with every writer, and read it back.

    Raises
    ------
    FileExistsError
        If there is a demo in `folder` already.
    WriteError
        If a recording failed.
    """
    writers: list[MDAWriter] = [
        BigTiffWriter(folder / "demo.ome.tiff", max_projection=True),
        OMEZarrWriter(folder / "demo.ome.zarr", levels=3),
        CV2Writer(folder / "demo.mp4", contrast_limits="full"),
    ]
    with demo_core() as core, _Acquired(core) as acquired:
        reports = record(core, SEQUENCE, writers, progress=progress)
    differing = {
        writer.path.name: acquired.count_differing(writer.path)
        for writer in writers
        if not isinstance(writer, CV2Writer)
    }
    page = write_report_page(folder)
    return DemoResult(folder, reports, len(acquired.frames), differing, page)


@contextmanager
def demo_core(config: str = "demo.cfg") -> Iterator[CMMCorePlus]:
    """Give a core with the simulated microscope, and let go of it in the end."""
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    try:
        core.loadSystemConfiguration(str(_config(config)))
        yield core
    finally:
        core.unloadAllDevices()
        # MMCore tells of events on a thread of its own; if that still has something to say while
        # the interpreter shuts down, the process is aborted after its work was done well
        super(CMMCorePlus, core).registerCallback(None)


class _Acquired:
    """Keeps every frame of a run, to compare with what is read back."""

    def __init__(self, core: CMMCorePlus) -> None:
        self._signal = core.mda.events.frameReady
        self.frames: list[tuple[Mapping[str, int], np.ndarray]] = []

    def __enter__(self) -> _Acquired:
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


def _config(name: str) -> Path:
    """Return a configuration file, installed with the package or beside it in a checkout."""
    here = Path(__file__).parent
    installed = here / "mm_configs" / name
    return installed if installed.exists() else here.parent.parent / "mm_configs" / name
