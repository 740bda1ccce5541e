"""Runs a session of a microscope and a camera, to be killed, interrupted, or left open."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

os.environ["PYMM_LOG_FILE"] = "0"
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import useq
from pymmcore_plus import CMMCorePlus

from conftest import MM_CONFIGS, let_go
from mda_writers import Acquisition


def camera_loop(acq: Acquisition, stop: threading.Event) -> None:
    eye = acq.writer("eye", ".ome.tiff", direct=True)
    eye.begin(32, 24, dtype="uint8")
    number = 0
    while not stop.wait(0.005):
        eye.add_frame(np.full((24, 32), number % 256, np.uint8), metadata={"number": number})
        acq.log("wheel", number, device_time=number)
        number += 1
    eye.finish()


def be_busy(root: str) -> None:
    """Begin and end short recordings all the time, with positions that get no frame."""
    with Acquisition(root, subject="M1", session=1, task="rest") as acq:
        eye = acq.writer("eye", ".ome.tiff", direct=True)
        for number in range(10_000):
            acq.note(f"recording {number}\nbegins")
            eye.begin(8, 8, dtype="uint8", sizes={"t": 1, "p": 3})
            eye.add_frame(np.full((8, 8), number % 256, np.uint8))
            acq.log("wheel", {"number": number})
            eye.finish()
            if number == 0:  # all that is imported on demand is there now
                print(acq.folder, flush=True)


def main(root: str, how: str) -> None:
    if sys.platform == "win32":  # the only signal that reaches one child and not its parent
        signal.signal(signal.SIGBREAK, signal.default_int_handler)
    # a shell's background job ignores Ctrl-C, and so would its children, this test among them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if how == "busy":
        be_busy(root)
        return
    core = CMMCorePlus()
    core.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
    core.setROI(0, 0, 64, 64)
    sequence = useq.MDASequence(time_plan={"interval": 0.01, "loops": 3000})
    stop = threading.Event()
    acq = Acquisition(root, subject="M1", session=1, task="rest")
    print(acq.folder, flush=True)
    acq.note("begun")
    camera = threading.Thread(target=camera_loop, args=(acq, stop))
    if how == "left open":
        writer = acq.writer("meso", ".ome.tiff")
        writer.begin(16, 16)
        writer.add_frame(np.ones((16, 16), np.uint8))
        let_go(core)
        return
    try:
        with acq:
            try:
                camera.start()
                if how == "sleep":
                    time.sleep(60)
                acq.writer("meso", ".ome.tiff")
                acq.record(core, sequence, progress=False)
            finally:
                stop.set()
                camera.join()
    finally:
        let_go(core)


if __name__ == "__main__":
    main(*sys.argv[1:])
