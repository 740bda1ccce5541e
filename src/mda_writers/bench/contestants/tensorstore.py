"""tensorstore's zarr3 driver, uncompressed."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job, read_zarr

IN_FLIGHT = 16
"""Writes not waited for; without a bound the whole run would end up in memory."""


class TensorStore(Contestant):
    """Asynchronous writes, a chunk a frame."""

    name = "tensorstore"
    label = "tensorstore zarr3"
    needs = ("tensorstore",)

    def run(self, job: Job) -> None:
        """Write the frames, at most `IN_FLIGHT` at a time."""
        store = _open(job)
        pending: deque[Any] = deque()
        for i, frame in enumerate(job.frames):
            pending.append(store[i].write(frame))
            if len(pending) > IN_FLIGHT:
                pending.popleft().result()
        for write in pending:
            write.result()

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as zarr-python reads it."""
        return read_zarr(path / "peer.zarr", index)


def _open(job: Job) -> Any:
    import tensorstore

    little_endian = {"name": "bytes", "configuration": {"endian": "little"}}
    chunks = {"name": "regular", "configuration": {"chunk_shape": [1, *job.shape]}}
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(job.path / "peer.zarr")},
        "metadata": {
            "shape": [job.n, *job.shape],
            "data_type": job.dtype,
            "chunk_grid": chunks,
            "codecs": [little_endian],
        },
        "create": True,
    }
    return tensorstore.open(spec).result()
