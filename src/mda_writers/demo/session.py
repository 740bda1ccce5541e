"""A session: the microscope, a camera with a loop of its own, a wheel, and notes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np
import useq

from mda_writers.acquisition.acquisition import Acquisition

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from mda_writers.acquisition.stored import StoredAcquisition
    from mda_writers.writers.mda_writer import MDAWriter

SEQUENCE = useq.MDASequence(
    channels=["FITC"], time_plan=useq.TIntervalLoops(interval=0.02, loops=20)
)
HEIGHT, WIDTH = 96, 128
FRAME_S = 1 / 60


def record_session(root: Path, core: CMMCorePlus) -> StoredAcquisition:
    """Record a session below `root`, and open it again.

    Raises
    ------
    Exception
        Whatever went wrong with any of its devices.
    """
    with Acquisition(root, subject="demo", session=1, task="wheel") as acq:
        acq.writer("meso", ".ome.tiff")
        camera = _EyeCamera(acq, acq.writer("eye", ".mp4", own_loop=True, fps=60))
        acq.note("the mouse runs")
        with camera:
            acq.record(core, SEQUENCE, progress=False)
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
