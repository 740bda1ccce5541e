"""The whole way: pymmcore-plus's demo camera, hardware-sequenced, into a writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import useq
from numpy.typing import NDArray
from pymmcore_plus import CMMCorePlus

from mda_writers.bench.contestants.base import Contestant, Job, read_tiff, read_zarr
from mda_writers.bench.contestants.ours import OMEZarr
from mda_writers.bench.contestants.pymmcore import handlers

EXPOSURE_MS = 0.01
"""As fast as the demo camera can copy: it shall not be what limits the speed."""

BUFFER_MB = 1024
"""MMCore's ring buffer, enough for a disk that pauses for half a second."""


class Acquisition(Contestant):
    """`run_mda` of a time series on the demo camera with `FastImage` on.

    Parameters
    ----------
    save
        Runs the sequence on the core and writes into the folder.
    read
        Reads a frame back; None when nothing is written.
    writer
        The writer of ours that it needs, if any.
    keeps_metadata
        Whether what is saved holds each frame's metadata.
    """

    own_camera: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        label: str,
        save: Callable[[CMMCorePlus, useq.MDASequence, Path], None],
        *,
        read: Callable[[Path, int], NDArray[Any]] | None = None,
        writer: str | None = None,
        keeps_metadata: bool = True,
    ) -> None:
        self.name = name
        self.label = label
        self._save = save
        self._read = read
        self._writer = writer
        self.ours = writer is not None
        self.keeps_metadata = keeps_metadata

    def available(self) -> str | None:
        """Return why not: no demo camera, or a writer that does not exist yet."""
        import mda_writers

        wanted = ("record", self._writer) if self._writer else ()
        missing = [name for name in wanted if not hasattr(mda_writers, name)]
        if missing:
            return f"mda_writers has no {' and no '.join(missing)}"
        return _demo_camera_missing()

    def prepare(self, job: Job) -> None:
        """Load the demo configuration and make its camera as fast as it can be."""
        plan: Any = {"interval": 0, "loops": job.n}
        self._sequence = useq.MDASequence(time_plan=plan)
        self._core = _demo_core(job.shape)

    def run(self, job: Job) -> None:
        """Acquire and write."""
        self._save(self._core, self._sequence, job.path)

    def read(self, path: Path, index: int) -> NDArray[Any] | None:
        """Return the frame at `index`, if this contestant writes at all."""
        return self._read(path, index) if self._read else None


def only_acquire(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
    """Acquire and throw away: what the camera could do without any writer."""
    core.run_mda(sequence, block=True)
    (path / "nothing").touch()


def record_with(writer: str, file: str) -> Callable[[CMMCorePlus, useq.MDASequence, Path], None]:
    """Return a function that saves through `mda_writers.record`."""

    def save(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
        import mda_writers

        make: Any = getattr(mda_writers, writer)
        record: Any = mda_writers.record  # type: ignore[attr-defined, unused-ignore]
        record(core, sequence, [make(path / file)], progress=False)

    return save


def output_to(writer: str, file: str) -> Callable[[CMMCorePlus, useq.MDASequence, Path], None]:
    """Return a function that saves through `run_mda(output=writer)`."""

    def save(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
        import mda_writers

        handler = getattr(mda_writers, writer)(path / file)
        core.run_mda(sequence, output=handler, block=True)
        handler.result()

    return save


def output_to_upstream(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
    """Save through pymmcore-plus's own `OMETiffWriter`."""
    handler = handlers().OMETiffWriter(path / "peer.ome.tiff")
    core.run_mda(sequence, output=handler, block=True)


def output_to_path(file: str) -> Callable[[CMMCorePlus, useq.MDASequence, Path], None]:
    """Return a function that gives `run_mda` a path, which means ome-writers."""

    def save(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
        core.run_mda(sequence, output=path / file, block=True)

    return save


def read_omezarr(path: Path, index: int) -> NDArray[Any]:
    """Return a frame of our OME-Zarr."""
    return OMEZarr("", "").read(path, index)


def read_tiff_named(file: str) -> Callable[[Path, int], NDArray[Any]]:
    """Return a reader of pages of the TIFF `file`."""
    return lambda path, index: read_tiff(path / file, index)


def read_zarr_named(file: str) -> Callable[[Path, int], NDArray[Any]]:
    """Return a reader of frames of the first array in the OME-Zarr `file`."""
    return lambda path, index: read_zarr(path / file / "0", index)


def _demo_camera_missing() -> str | None:
    try:
        CMMCorePlus().loadSystemConfiguration()
    except (RuntimeError, OSError) as error:
        return f"no demo camera: {error}"
    return None


def _demo_core(shape: tuple[int, int]) -> CMMCorePlus:
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    camera = core.getCameraDevice()
    core.setProperty(camera, "OnCameraCCDXSize", shape[1])
    core.setProperty(camera, "OnCameraCCDYSize", shape[0])
    core.setProperty(camera, "PixelType", "16bit")
    core.snapImage()  # FastImage repeats the last image made without it
    core.setProperty(camera, "FastImage", 1)
    core.setExposure(EXPOSURE_MS)
    core.setCircularBufferMemoryFootprint(BUFFER_MB)
    return core
