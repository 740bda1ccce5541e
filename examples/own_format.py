"""A format of your own: an array that takes frames by index is all it needs.

The frames' way, the journal with a checksum a frame, the failure path and the report stay those
of the package; here every frame becomes a NumPy file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import BigTiffWriter, record


class NpyFolder:
    """A folder of .npy files; `folder[index] = frame`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        np.save(self.folder / ("_".join(map(str, index)) + ".npy"), frame)

    def __getitem__(self, index: tuple[int, ...]) -> np.ndarray:
        return np.load(self.folder / ("_".join(map(str, index[:-2])) + ".npy"))[index[-2:]]


class NpyWriter(BigTiffWriter):
    """Writes .npy files where its base writes TIFF; upstream's seam `new_array` is enough."""

    def new_array(self, position_key: str, dtype: np.dtype, sizes: dict[str, int]) -> Any:
        return NpyFolder(self.path.parent / f"{self.path.name}_npy" / position_key)


core = CMMCorePlus()
core.loadSystemConfiguration()
sequence = useq.MDASequence(channels=["DAPI", "FITC"], z_plan={"range": 2, "step": 1})
writer = NpyWriter("own.tif")
(report,) = record(core, sequence, writer)
print(f"{report.frames_written} frames; the middle of FITC: {writer.isel(c=1, z=1).mean():.1f}")

super(CMMCorePlus, core).registerCallback(None)
