"""Look at a recording while it is being made, from a second process.

Here this file starts itself again to watch. With you that may be a notebook or an analysis, on
this computer or on one that shares the folder.
"""

import subprocess
import sys
import time
from pathlib import Path

import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, open_dataset, record

RECORDING = Path("live.ome.tiff")


def watch() -> None:
    while not RECORDING.exists():  # it is there with the first frame
        time.sleep(0.01)
    with open_dataset(RECORDING) as dataset:
        # all frames so far, then each as soon as it is completely on disk; ends when the run
        # ends, and also when the program that records has died
        for coords in dataset.follow():
            image = dataset.read_image(**coords)
            exposure_ms = dataset.read_metadata(**coords)["exposure_ms"]
            print(f"{coords}: {image.mean():.0f} on average, {exposure_ms} ms", flush=True)
        print("complete" if dataset.complete else f"missing: {dataset.missing}")


def acquire() -> None:
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    sequence = useq.MDASequence(
        axis_order="tc",
        channels=[{"config": "DAPI", "exposure": 5}, {"config": "FITC", "exposure": 10}],
        time_plan={"interval": 0.2, "loops": 10},
    )
    record(core, sequence, BigTiffWriter(RECORDING), progress=False)
    super(CMMCorePlus, core).registerCallback(None)


if sys.argv[1:] == ["watch"]:
    watch()
else:
    watcher = subprocess.Popen([sys.executable, __file__, "watch"])
    acquire()
    watcher.wait()
