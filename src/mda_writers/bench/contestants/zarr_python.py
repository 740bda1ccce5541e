"""zarr-python, uncompressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job, read_zarr


class ZarrPython(Contestant):
    """`array[i] = frame`, a chunk a frame."""

    name = "zarr-python"
    label = "zarr-python"
    needs = ("zarr",)

    def run(self, job: Job) -> None:
        """Assign the frames."""
        import zarr

        # Without it each chunk is first compared with the fill value.
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.create_array(
                job.path / "peer.zarr",
                shape=(job.n, *job.shape),
                chunks=(1, *job.shape),
                dtype=job.dtype,
                compressors=None,
            )
            for i, frame in enumerate(job.frames):
                array[i] = frame

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as zarr-python reads it."""
        return read_zarr(path / "peer.zarr", index)
