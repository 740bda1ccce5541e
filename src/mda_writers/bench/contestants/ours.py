"""Our own writers in direct mode, as a camera with its own loop uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job, read_tiff


class DirectMode(Contestant):
    """`begin`, `add_frame`, `finish`; journal, sidecar and checksums as by default."""

    keeps_metadata = True
    ours = True
    writer: ClassVar[str]
    file: str

    def __init__(self, name: str, label: str, **options: Any) -> None:
        self.name = name
        self.label = label
        self._options = options

    def run(self, job: Job) -> None:
        """Write the frames as one time series."""
        import mda_writers

        writer = getattr(mda_writers, self.writer)(job.path / self.file, **self._options)
        height, width = job.shape
        writer.begin(width, height, is_color=False, dtype=job.dtype, sizes={"t": job.n})
        for i, frame in enumerate(job.frames):
            writer.add_frame(frame, metadata=job.metadata(i))
        writer.finish()


class BigTiff(DirectMode):
    """`BigTiffWriter`."""

    needs = ("mda_writers.writers.bigtiff", "tifffile")
    writer = "BigTiffWriter"
    file = "ours.ome.tiff"

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the page as tifffile reads it."""
        return read_tiff(path / self.file, index)


class OMEZarr(DirectMode):
    """`OMEZarrWriter`."""

    needs = ("mda_writers.writers.ome_zarr", "zarr")
    writer = "OMEZarrWriter"
    file = "ours.ome.zarr"

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as zarr-python reads it, out of the first array of the group."""
        import zarr

        group = zarr.open_group(path / self.file, mode="r")
        array: Any = group["0/0" if "0/0" in group else "0"]
        return np.asarray(array[index]).reshape(array.shape[-2:])
