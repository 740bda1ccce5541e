"""A session of two devices: a microscope, and a camera that is polled."""

import threading
from pathlib import Path

import numpy as np
import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import Acquisition

core = CMMCorePlus()
core.loadSystemConfiguration(Path(__file__).parent.parent / "mm_configs" / "demo.cfg")
sequence = useq.MDASequence(channels=["FITC"], time_plan={"interval": 0.02, "loops": 20})

with Acquisition("my_data", subject="M01", session=1, task="rest") as acq:
    meso = acq.writer("meso", ".ome.tiff")
    eye = acq.writer("eye", ".ome.tiff", direct=True)
    stop = threading.Event()

    def watch_the_eye() -> None:
        with acq.keeping_errors():
            eye.begin(width=64, height=48, dtype="uint8", camera="webcam")
            number = 0
            while not stop.wait(0.01):  # a real loop would wait for its camera here
                eye.add_frame(np.full((48, 64), number % 256, np.uint8))
                acq.log("wheel", {"position": number, "speed_mm_s": 1.5}, device_time=number)
                number += 1
            eye.finish()

    thread = threading.Thread(target=watch_the_eye)
    thread.start()
    acq.note("the mouse is awake")
    acq.record(core, sequence, progress=False)
    acq.note("the mouse sleeps")
    stop.set()
    thread.join()

session = Acquisition.open(acq.folder)
print(session.status, "complete" if session.complete else "incomplete")
for note in session.notes:
    print(note["time"], note["note"])
for row in session.timestamps:  # one clock for all devices, so that they can be aligned
    print(row["device"], row["started_monotonic_s"], row["stopped_monotonic_s"])
with session.dataset("meso") as meso:
    print(meso)

super(CMMCorePlus, core).registerCallback(None)
