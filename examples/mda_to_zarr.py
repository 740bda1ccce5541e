"""Record an acquisition as OME-Zarr with a pyramid, and read it back in any resolution."""

import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import OMEZarrWriter, open_dataset, record

core = CMMCorePlus()
core.loadSystemConfiguration()  # on your microscope: its own configuration file

sequence = useq.MDASequence(
    channels=[{"config": "DAPI", "exposure": 5}, {"config": "FITC", "exposure": 10}],
    z_plan={"range": 8, "step": 1},
    time_plan={"interval": 0, "loops": 3},
)

# Each level has half the width and height of the one before, made while frames come: the exact
# mean of 2 × 2 pixels. compression="blosc-zstd" would take less room and more of the processor.
writer = OMEZarrWriter("exp.ome.zarr", levels=3)
(report,) = record(core, sequence, writer)
print(f"{report.frames_written} frames at {report.mb_per_s:.0f} MB/s, complete: {report.complete}")

with open_dataset("exp.ome.zarr") as dataset:
    print(dataset)
    for level, shape in enumerate(dataset.shapes):
        print(level, shape)
    overview = dataset.as_array(level=2, c="FITC").max(axis=1)  # along z; nothing is read yet
    print("FITC, a quarter of the size, projected:", overview.compute().shape)

super(CMMCorePlus, core).registerCallback(None)
