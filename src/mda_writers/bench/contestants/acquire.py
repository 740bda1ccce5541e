"""acquire-zarr, the C++ streaming writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job, read_zarr

MAX_SHARD_BYTES = 64 * 2**20
MAX_SHARD_FRAMES = 1024


class Acquire(Contestant):
    """A `ZarrStream`, uncompressed, a chunk a frame, with or without sharding.

    Parameters
    ----------
    sharded
        Whether several frames share a file.
    """

    needs = ("acquire_zarr",)

    def __init__(self, name: str, label: str, *, sharded: bool) -> None:
        self.name = name
        self.label = label
        self._sharded = sharded

    def run(self, job: Job) -> None:
        """Append the frames."""
        import acquire_zarr

        stream = acquire_zarr.ZarrStream(self._settings(job))
        for frame in job.frames:
            stream.append(frame)
        stream.close()

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as zarr-python reads it."""
        return read_zarr(path / "peer.zarr", index)

    def _settings(self, job: Job) -> Any:
        import acquire_zarr as az

        height, width = job.shape
        space, time = az.DimensionType.SPACE, az.DimensionType.TIME
        dimensions = [
            _dimension("t", time, job.n, 1, self._frames_per_shard(job)),
            _dimension("y", space, height, height, 1),
            _dimension("x", space, width, width, 1),
        ]
        array = az.ArraySettings(dimensions=dimensions, data_type=job.dtype)
        return az.StreamSettings(store_path=str(job.path / "peer.zarr"), arrays=[array])

    def _frames_per_shard(self, job: Job) -> int:
        if not self._sharded:
            return 1
        return max(1, min(MAX_SHARD_FRAMES, MAX_SHARD_BYTES // job.frame_bytes, job.n))


def _dimension(name: str, kind: Any, size: int, chunk: int, shard: int) -> Any:
    import acquire_zarr

    return acquire_zarr.Dimension(
        name=name,
        kind=kind,
        array_size_px=size,
        chunk_size_px=chunk,
        shard_size_chunks=shard,
    )
