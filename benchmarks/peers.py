"""The same benchmark with other libraries beside this package: `python benchmarks/peers.py`.

Takes the options of `mda-writers bench`; see README.md in this folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import typer
import useq
from numpy.typing import NDArray
from pymmcore_plus import CMMCorePlus

from mda_writers.bench.camera import ome_metadata
from mda_writers.bench.candidates import (
    CANDIDATES,
    MEASURED_BY,
    Acquisition,
    Candidate,
    Job,
    read_tiff,
    read_tiff_named,
    read_zarr,
    read_zarr_named,
)
from mda_writers.bench.command import bench
from mda_writers.bench.measure import main
from mda_writers.bench.scenarios import SCENARIOS

TIFF, ZARR = "peer.ome.tiff", "peer.ome.zarr"

HANDLERS = "pymmcore_plus.mda.handlers"

MAX_SHARD_BYTES = 64 * 2**20
MAX_SHARD_FRAMES = 1024

IN_FLIGHT = 16
"""Writes not waited for; without a bound the whole run would end up in memory."""


def join() -> None:
    """Let the peers take part."""
    CANDIDATES.update({one.name: one for one in [*peers(), *compressed(), *whole_way()]})
    everyone = tuple(one.name for one in peers())
    joining = {
        "large": everyone,
        "unaligned": everyone,
        "small": everyone,
        "memory": ("ndtiff", "tifffile", "acquire-sharded"),
        "compressed": ("pymmcore-tensorstore", *(one.name for one in compressed())),
        "record": tuple(one.name for one in whole_way()),
    }
    for name, names in joining.items():
        there = SCENARIOS[name].candidates
        more = tuple(one for one in names if one not in there)
        SCENARIOS[name] = replace(SCENARIOS[name], candidates=(*there, *more))
    MEASURED_BY[:] = [str(Path(__file__).resolve())]


def peers() -> list[Candidate]:
    """Return those who write plain frames."""
    return [
        OMETiff(),
        TensorStore(),
        OMEWriters("ome-writers-tifffile", "tifffile"),
        OMEWriters("ome-writers-zarr", "zarr-python"),
        OMEWriters("ome-writers-tensorstore", "tensorstore"),
        OMEWriters("ome-writers-acquire", "acquire-zarr"),
        Acquire("acquire", "acquire-zarr", sharded=False),
        Acquire("acquire-sharded", "acquire-zarr, sharded", sharded=True),
        NDTiff(),
        Tifffile(),
        PlainTensorStore(),
        ZarrPython(),
    ]


def compressed() -> list[Candidate]:
    """Return those who compress."""
    return [
        OMEWriters(f"ome-writers-{short}-{codec}", backend, f"blosc-{codec}")
        for short, backend in (
            ("zarr", "zarr-python"),
            ("tensorstore", "tensorstore"),
            ("acquire", "acquire-zarr"),
        )
        for codec in ("lz4", "zstd")
    ]


def whole_way() -> list[Candidate]:
    """Return those who save what `run_mda` acquires."""
    return [
        Acquisition(
            "output-pymmcore-tiff",
            "output=, pymmcore-plus OMETiffWriter",
            output_to_upstream,
            read=read_tiff_named(TIFF),
            keeps_metadata=False,
        ),
        Acquisition(
            "output-path-tiff",
            "output='….ome.tiff' (ome-writers)",
            output_to_path(TIFF),
            read=read_tiff_named(TIFF),
        ),
        Acquisition(
            "output-path-zarr",
            "output='….ome.zarr' (ome-writers)",
            output_to_path(ZARR),
            read=read_zarr_named(ZARR),
        ),
    ]


class _Handler(Candidate):
    """`sequenceStarted`, `frameReady` for each frame, `sequenceFinished`."""

    def prepare(self, job: Job) -> None:
        """Make the events, which the engine would have made."""
        plan: Any = {"interval": 0, "loops": job.n}
        self.sequence = useq.MDASequence(time_plan=plan)
        self.events: Iterator[useq.MDAEvent] = iter(list(self.sequence))

    def run(self, job: Job) -> None:
        """Call the hooks as the relay thread does."""
        handler = self.handler(job.path)
        handler.sequenceStarted(self.sequence, {})
        for i, (frame, event) in enumerate(zip(job.frames, self.events, strict=False)):
            handler.frameReady(frame, event, job.metadata(i))
        handler.sequenceFinished(self.sequence)

    def handler(self, path: Path) -> Any:
        """Return the handler that writes into the folder `path`."""
        raise NotImplementedError


class OMETiff(_Handler):
    """`OMETiffWriter`: a memory-mapped file, flushed after each frame."""

    name = "pymmcore-tiff"
    label = "pymmcore-plus OMETiffWriter"
    needs = (HANDLERS, "tifffile")

    def handler(self, path: Path) -> Any:
        """Return an `OMETiffWriter`."""
        return handlers().OMETiffWriter(path / "peer.ome.tiff")

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the page as tifffile reads it."""
        return read_tiff(path / "peer.ome.tiff", index)


class TensorStore(_Handler):
    """`TensorStoreHandler` with its defaults: Zarr v2, a chunk a frame, lz4."""

    name = "pymmcore-tensorstore"
    label = "pymmcore-plus TensorStoreHandler (lz4)"
    keeps_metadata = True
    needs = (HANDLERS, "tensorstore")

    def handler(self, path: Path) -> Any:
        """Return a `TensorStoreHandler`."""
        return handlers().TensorStoreHandler(path=path / "peer.zarr")

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as tensorstore reads it."""
        import tensorstore

        store = {"driver": "file", "path": str(path / "peer.zarr")}
        return np.asarray(tensorstore.open({"driver": "zarr", "kvstore": store}).result()[index])


def handlers() -> ModuleType:
    """Return the real deprecated module, never the stand-in that `_upstream` may offer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pymmcore_plus.mda.handlers as module
    return module


class OMEWriters(Candidate):
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


class Acquire(Candidate):
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


class NDTiff(Candidate):
    """`NDTiffDataset.put_image`: TIFF files of 4 GB, metadata beside each frame."""

    name = "ndtiff"
    label = "NDTiff (ndstorage)"
    keeps_metadata = True
    needs = ("ndstorage",)

    def run(self, job: Job) -> None:
        """Put the images."""
        import ndstorage

        dataset = ndstorage.NDTiffDataset(str(job.path), name="peer", writable=True)
        dataset.initialize({})
        for i, frame in enumerate(job.frames):
            dataset.put_image({"time": i}, frame, job.metadata(i))
        dataset.finish()

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the image as ndstorage reads it."""
        import ndstorage

        folder = next(folder for folder in path.iterdir() if folder.is_dir())
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            dataset = ndstorage.NDTiffDataset(str(folder))
        try:
            return np.asarray(dataset.read_image(time=index))
        finally:
            dataset.close()


class Tifffile(Candidate):
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


class PlainTensorStore(Candidate):
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


class ZarrPython(Candidate):
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


def output_to_upstream(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
    """Save through pymmcore-plus's own `OMETiffWriter`."""
    handler = handlers().OMETiffWriter(path / "peer.ome.tiff")
    core.run_mda(sequence, output=handler, block=True)


def output_to_path(file: str) -> Callable[[CMMCorePlus, useq.MDASequence, Path], None]:
    """Return a function that gives `run_mda` a path, which means ome-writers."""

    def save(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
        core.run_mda(sequence, output=path / file, block=True)

    return save


if __name__ == "__main__":
    join()
    if sys.argv[1:2] and sys.argv[1].startswith("{"):  # asked for one measurement, see MEASURED_BY
        print(json.dumps(asdict(main(json.loads(sys.argv[1])))))
    else:
        typer.run(bench)
