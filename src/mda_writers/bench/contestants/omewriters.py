"""ome-writers, to which pymmcore-plus 0.18 hands a path given as `output=`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job, read_tiff, read_zarr
from mda_writers.bench.metadata import ome_metadata


class OMEWriters(Contestant):
    """One backend of ome-writers, a chunk a frame, with the metadata it has a place for.

    Parameters
    ----------
    backend
        `tifffile`, `zarr-python`, `tensorstore` or `acquire-zarr`.
    compression
        As ome-writers names it, or None.
    """

    keeps_metadata = True

    def __init__(self, name: str, backend: str, compression: str | None = None) -> None:
        self.name = name
        self.label = f"ome-writers, {backend}" + (f", {compression}" if compression else "")
        self.needs = ("ome_writers", backend.replace("-python", "").replace("-", "_"))
        self._backend = backend
        self._compression = compression
        self._is_tiff = backend == "tifffile"

    def run(self, job: Job) -> None:
        """Append the frames to a stream."""
        import ome_writers

        with ome_writers.create_stream(self._settings(job)) as stream:
            for i, frame in enumerate(job.frames):
                stream.append(frame, frame_metadata=ome_metadata(i))
        _join_writers()

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as tifffile or zarr-python reads it."""
        if self._is_tiff:
            return read_tiff(path / "peer.ome.tiff", index)
        return np.asarray(read_zarr(path / "peer.ome.zarr" / "0", index))

    def _settings(self, job: Job) -> Any:
        import ome_writers

        height, width = job.shape
        suffix = "tiff" if self._is_tiff else "zarr"
        return ome_writers.AcquisitionSettings.model_validate(
            {
                "root_path": str(job.path / f"peer.ome.{suffix}"),
                "dimensions": ome_writers.dims_from_standard_axes(
                    {"t": job.n, "y": height, "x": width}
                ),
                "dtype": job.dtype,
                "format": {"name": f"ome-{suffix}", "backend": self._backend},
                "compression": self._compression,
            }
        )


def _join_writers() -> None:
    """Wait for threads that the stream left behind.

    Its TIFF backend waits five seconds for its writing thread and then returns; the frames that
    are still queued would be lost with the process, and must not count as written.
    """
    for thread in threading.enumerate():
        if thread.name.startswith("TiffWriterThread"):
            thread.join()
