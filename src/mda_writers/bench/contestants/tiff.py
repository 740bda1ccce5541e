"""tifffile's own writer, the usual answer to "how do I save a stack"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job, read_tiff


class Tifffile(Contestant):
    """`TiffWriter.write` for each frame into one contiguous BigTIFF."""

    name = "tifffile"
    label = "tifffile TiffWriter"
    needs = ("tifffile",)

    def run(self, job: Job) -> None:
        """Write the frames."""
        import tifffile

        with tifffile.TiffWriter(job.path / "peer.tif", bigtiff=True) as tiff:
            for frame in job.frames:
                tiff.write(frame, contiguous=True, photometric="minisblack")

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the page as tifffile reads it."""
        return read_tiff(path / "peer.tif", index)
