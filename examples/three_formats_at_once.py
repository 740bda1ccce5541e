"""Save one acquisition as OME-TIFF, as OME-Zarr and, on the side, as a small film to look at."""

import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, CV2Writer, OMEZarrWriter, record

core = CMMCorePlus()
core.loadSystemConfiguration()

sequence = useq.MDASequence(
    axis_order="tc",
    channels=[{"config": "DAPI", "exposure": 5}, {"config": "FITC", "exposure": 10}],
    time_plan={"interval": 0, "loops": 40},
)

tiff = BigTiffWriter("exp.ome.tiff")
zarr = OMEZarrWriter("exp.ome.zarr")
# every fourth frame in half the size; black and white are found once, from the first frames
film = CV2Writer("preview.mp4", fps=10, decimate=4, scale=0.5, contrast_limits="auto")

# Each has a thread of its own, and one that fails does not harm the others.
reports = record(core, sequence, [tiff, zarr, film])

for writer, report in zip((tiff, zarr, film), reports, strict=True):
    print(f"{report.frames_written} frames, complete: {report.complete}")
    for path in writer.paths:
        print("   ", path.name)  # the film: preview_DAPI.mp4, preview_FITC.mp4

super(CMMCorePlus, core).registerCallback(None)
