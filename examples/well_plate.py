"""Record wells of a plate, several fields in each."""

import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, record

core = CMMCorePlus()
core.loadSystemConfiguration()

plate = useq.WellPlatePlan(
    plate="96-well",
    a1_center_xy=(0, 0),
    selected_wells=([0, 0, 1], [0, 1, 0]),  # A1, A2, B1
    well_points_plan=useq.GridRowsColumns(rows=1, columns=2, fov_width=256, fov_height=256),
)
sequence = useq.MDASequence(stage_positions=plate, channels=["DAPI"])

# One file a field, named after its well, and all of them one OME data set.
(report,) = record(core, sequence, BigTiffWriter("plate.ome.tiff"))
for path in report.paths:
    print(path)

super(CMMCorePlus, core).registerCallback(None)
