"""A format of your own: every frame becomes a NumPy file, in a folder per position.

The journal with a checksum per frame, back-pressure, the report, and all that reads recordings
stay those of the package. CONTRIBUTING.md says where these classes go in the package itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import useq
from pymmcore_plus import CMMCorePlus

from mda_writers import (
    Format,
    FrameArray,
    MDAWriter,
    convert,
    open_dataset,
    record,
    register_format,
    verify,
)


class NpyFolder(FrameArray):
    """The frames of one position; `folder[index] = frame` is on disk when it returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        np.save(self.folder / file_name(index), frame)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.load(self.folder / file_name(index))

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return what `read_frame` needs; it goes into the journal and the sidecar."""
        return {"file": self.folder.name, "npy": file_name(index)}


class NpyFormat(Format):
    """How a position's folder begins, and how a frame is read back."""

    name = "npy"

    def new_array(self, path: Path, *_: Any) -> NpyFolder:
        return NpyFolder(path)

    def read_frame(self, path: Path, image: Any, ours: Mapping[str, Any]) -> np.ndarray:
        return np.load(path / ours["npy"])


class NpyWriter(MDAWriter):
    """What users construct."""

    suffixes = (".npys",)

    def format(self, set_id: str) -> NpyFormat:
        return NpyFormat()


def file_name(index: tuple[int, ...]) -> str:
    return "_".join(map(str, index)) + ".npy"


register_format(NpyFormat, NpyWriter)

if __name__ == "__main__":
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    sequence = useq.MDASequence(channels=["DAPI", "FITC"], stage_positions=[(0, 0), (9, 0)])
    (report,) = record(core, sequence, NpyWriter("own.npys"))
    print(f"{report.frames_written} frames, intact: {verify('own.npys').intact}")
    convert("own.npys", "own.ome.tiff")
    with open_dataset("own.ome.tiff") as dataset:
        print(f"FITC at the second position: {dataset.read_image(p=1, c='FITC').mean():.1f}")
    super(CMMCorePlus, core).registerCallback(None)
