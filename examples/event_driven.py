"""Decide from each image what to acquire next: events from a queue, their number unknown."""

from queue import Queue

import numpy as np
import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, record

core = CMMCorePlus()
core.loadSystemConfiguration()
events: Queue[useq.MDAEvent | None] = Queue()


def decide(image: np.ndarray, event: useq.MDAEvent, metadata: dict) -> None:
    """Go on with a shorter exposure while the image is bright, for ten time points at most."""
    t = event.index["t"]
    if t == 9:
        events.put(None)
        return
    exposure = max(1.0, (event.exposure or 10) * (0.5 if image.mean() > 1000 else 1.1))
    events.put(useq.MDAEvent(index={"t": t + 1}, exposure=exposure))


core.mda.events.frameReady.connect(decide)
events.put(useq.MDAEvent(index={"t": 0}, exposure=10))

# The recording grows as its frames come; at the end the file has just as many planes.
(report,) = record(core, iter(events.get, None), BigTiffWriter("event_driven.ome.tiff"))
print(f"{report.frames_written} frames, complete: {report.complete}")

super(CMMCorePlus, core).registerCallback(None)
