"""Record the data as OME-TIFF, and a small film of it on the side to look at."""

import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, CV2Writer, record

core = CMMCorePlus()
core.loadSystemConfiguration()

sequence = useq.MDASequence(
    axis_order="tc",
    channels=[{"config": "DAPI", "exposure": 5}, {"config": "FITC", "exposure": 10}],
    time_plan={"interval": 0, "loops": 40},
)

data = BigTiffWriter("exp.ome.tiff")
# every fourth frame in half the size; black and white are found once, from the first frames
preview = CV2Writer("preview.mp4", fps=10, decimate=4, scale=0.5, contrast_limits="auto")

whole, small = record(core, sequence, [data, preview])

print(f"{whole.frames_written} frames for the analysis, {small.frames_written} to look at")
for path in preview.paths:
    print(path.name)  # preview_DAPI.mp4, preview_FITC.mp4, and what is known of each frame

super(CMMCorePlus, core).registerCallback(None)
