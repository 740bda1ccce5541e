"""The handlers that pymmcore-plus ships, driven by the hooks its runner would call."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import useq
from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job, read_tiff

HANDLERS = "pymmcore_plus.mda.handlers"


class _Handler(Contestant):
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
