"""Record two cameras at once: side by side in one file, as channels with names of their own."""

from pathlib import Path

import tifffile
import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, record

core = CMMCorePlus()
# a Multi Camera device of Micro-Manager's Utilities adapter, with two simulated cameras
configs = Path(__file__).parent.parent / "mm_configs"
core.loadSystemConfiguration(str(configs / "two_cameras.cfg"))

sequence = useq.MDASequence(
    channels=["DAPI", "FITC"], time_plan={"interval": 0, "loops": 5}, axis_order="tc"
)
record(core, sequence, BigTiffWriter("two_cameras.ome.tiff"))

with tifffile.TiffFile("two_cameras.ome.tiff") as tif:
    series = tif.series[0]
    print(series.axes, series.shape)  # TCYX (5, 4, 512, 512): two channels × two cameras

super(CMMCorePlus, core).registerCallback(None)
