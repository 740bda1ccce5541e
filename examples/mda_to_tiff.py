"""Record a multi-dimensional acquisition as OME-TIFF, and look at what became of it."""

import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, record

core = CMMCorePlus()
core.loadSystemConfiguration()  # on your microscope: its own configuration file

sequence = useq.MDASequence(
    stage_positions=[
        useq.Position(x=0, y=0, z=0, name="left"),
        useq.Position(x=500, y=0, z=0, name="right"),
    ],
    channels=[{"config": "DAPI", "exposure": 5}, {"config": "FITC", "exposure": 10}],
    z_plan={"range": 4, "step": 1},
    time_plan={"interval": 0, "loops": 2},
)

# `record` applies back-pressure when the disk falls behind, and raises if a frame was lost.
(report,) = record(core, sequence, BigTiffWriter("exp.ome.tiff"))

print(f"{report.frames_written} frames at {report.mb_per_s:.0f} MB/s, complete: {report.complete}")
for path in report.paths:
    print(path)

# The same as an output handler, as pymmcore-plus's own were used; the second run gets a free name.
writer = BigTiffWriter("again.ome.tiff")
core.run_mda(sequence, output=writer, block=True)
writer.result()  # raises what went wrong; run_mda does not

super(CMMCorePlus, core).registerCallback(None)  # let MMCore's own thread end before Python does
