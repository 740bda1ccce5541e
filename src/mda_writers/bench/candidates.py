"""Who takes part in the benchmark by default: our writers, and bare loops as their yardsticks.

Other libraries take part in `benchmarks/peers.py`.
"""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import useq
from numpy.typing import NDArray
from pymmcore_plus import CMMCorePlus

from mda_writers.bench.camera import Camera


class Candidate:
    """One way to write frames.

    A subclass names itself and the modules it needs, and fills in `run` and `read`. Its set-up
    that has nothing to do with writing (loading a camera's configuration) goes into `prepare`,
    which is not measured.
    """

    name: str
    label: str
    keeps_metadata: bool = False
    ours: bool = False
    lossy: bool = False
    own_camera: ClassVar[bool] = False
    needs: tuple[str, ...] = ()

    def available(self) -> str | None:
        """Import what is needed, and return None, or the reason why it cannot be."""
        try:
            for module in self.needs:
                # A peer may warn about its own future when it is imported; that is its concern.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    import_module(module)
        except ImportError as error:
            return str(error)
        return None

    def prepare(self, job: Job) -> None:
        """Do what an acquisition would have done before it begins to write."""

    def run(self, job: Job) -> None:
        """Write every frame of `job` with its metadata, and close."""
        raise NotImplementedError

    def read(self, path: Path, index: int) -> NDArray[Any] | None:
        """Return the frame at `index` as a stock reader sees it, or None without a reader."""
        return None


class DirectMode(Candidate):
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

    needs = ("mda_writers.writers.tiff", "tifffile")
    writer = "BigTiffWriter"
    file = "ours.ome.tiff"

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the page as tifffile reads it."""
        return read_tiff(path / self.file, index)


class OMEZarr(DirectMode):
    """`OMEZarrWriter`."""

    needs = ("mda_writers.writers.zarr", "zarr")
    writer = "OMEZarrWriter"
    file = "ours.ome.zarr"

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as zarr-python reads it, out of the first array of the group."""
        import zarr

        group = zarr.open_group(path / self.file, mode="r")
        array: Any = group["0/0" if "0/0" in group else "0"]
        return np.asarray(array[index]).reshape(array.shape[-2:])


def read_tiff(path: Path, index: int) -> NDArray[Any]:
    """Return one page of a TIFF as tifffile reads it."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return np.asarray(tiff.pages[index].asarray())


@dataclass(frozen=True, slots=True)
class Job:
    """The work, the same for everyone.

    Parameters
    ----------
    path
        An empty folder for this candidate alone.
    frames
        The camera: iterate over it once.
    n
        How many frames are planned; the camera may stop earlier.
    shape, dtype
        Of each frame.
    metadata
        Called with a frame's index it returns the frame's metadata.
    """

    path: Path
    frames: Camera
    n: int
    shape: tuple[int, int]
    dtype: str
    metadata: Callable[[int], dict[str, Any]]

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


OURS: list[Candidate] = [
    BigTiff("bigtiff", "mda-writers BigTiffWriter"),
    OMEZarr("omezarr", "mda-writers OMEZarrWriter"),
    OMEZarr("omezarr-lz4", "mda-writers OMEZarrWriter, lz4", compression="blosc-lz4"),
    OMEZarr("omezarr-zstd", "mda-writers OMEZarrWriter, zstd", compression="blosc-zstd"),
    OMEZarr("omezarr-3-levels", "mda-writers OMEZarrWriter, 3 levels", levels=3),
]

OUR_TIFF, OUR_ZARR = BigTiff.file, OMEZarr.file


class Acquisition(Candidate):
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
        """Return the frame at `index`, if this candidate writes at all."""
        return self._read(path, index) if self._read else None


def only_acquire(core: CMMCorePlus, sequence: useq.MDASequence, path: Path) -> None:
    """Acquire and throw away: what the camera could do without any writer."""
    core.run_mda(sequence, block=True)
    (path / "nothing").touch()


def read_tiff_named(file: str) -> Callable[[Path, int], NDArray[Any]]:
    """Return a reader of pages of the TIFF `file`."""
    return lambda path, index: read_tiff(path / file, index)


def read_omezarr(path: Path, index: int) -> NDArray[Any]:
    """Return a frame of our OME-Zarr."""
    return OMEZarr("", "").read(path, index)


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


EXPOSURE_MS = 0.01
"""As fast as the demo camera can copy: it shall not be what limits the speed."""

BUFFER_MB = 1024
"""MMCore's ring buffer, enough for a disk that pauses for half a second."""

WHOLE_WAY: list[Candidate] = [
    Acquisition("camera", "the camera alone", only_acquire, keeps_metadata=False),
    *(
        Acquisition(
            f"{how}-{short}", f"{said}, {writer}", run(writer, file), read=read, writer=writer
        )
        for short, writer, file, read in (
            ("bigtiff", "BigTiffWriter", OUR_TIFF, read_tiff_named(OUR_TIFF)),
            ("omezarr", "OMEZarrWriter", OUR_ZARR, read_omezarr),
        )
        for how, said, run in (
            ("record", "record()", record_with),
            ("output", "output=", output_to),
        )
    ),
]


class Video(DirectMode):
    """`CV2Writer`."""

    needs = ("mda_writers.writers.video", "av")
    writer = "CV2Writer"

    def __init__(self, fourcc: str) -> None:
        super().__init__(
            f"video-{fourcc.lower()}", f"mda-writers CV2Writer, {fourcc}", fourcc=fourcc
        )
        self.file = f"ours{SUFFIXES[fourcc]}"
        self.lossy = fourcc != "FFV1"

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as PyAV decodes it."""
        return read_video(path / self.file, index)


class BarePyAV(Candidate):
    """The loop that one writes with PyAV: encode, and mux what comes."""

    needs = ("av",)

    def __init__(self, fourcc: str) -> None:
        self.name = f"pyav-{fourcc.lower()}"
        self.label = f"bare PyAV loop, {fourcc}"
        self.lossy = fourcc != "FFV1"
        self._file = f"bare{SUFFIXES[fourcc]}"
        self._encoder, self._format, self._options = ENCODERS[fourcc]

    def run(self, job: Job) -> None:
        """Encode the frames as one video."""
        import av

        with av.open(str(job.path / self._file), "w") as file:
            stream: Any = file.add_stream(self._encoder, rate=FPS, options=dict(self._options))
            stream.height, stream.width = job.shape
            stream.pix_fmt = self._format
            for i, pixels in enumerate(job.frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="gray")
                frame.pts, frame.time_base = i, Fraction(1, FPS)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as PyAV decodes it."""
        return read_video(path / self._file, index)


class BareOpenCV(Candidate):
    """`cv2.VideoWriter`, for the codecs that OpenCV's wheels have everywhere."""

    needs = ("cv2", "av")
    lossy = True  # OpenCV gives FFV1 colours, too

    def __init__(self, fourcc: str) -> None:
        self.name = f"opencv-{fourcc.lower()}"
        self.label = f"bare cv2.VideoWriter, {fourcc}"
        self._fourcc = fourcc
        self._file = f"bare{SUFFIXES[fourcc]}"

    def run(self, job: Job) -> None:
        """Encode the frames as one video."""
        import cv2

        height, width = job.shape
        letters = cv2.VideoWriter.fourcc(*self._fourcc)
        writer = cv2.VideoWriter(str(job.path / self._file), letters, FPS, (width, height), False)
        if not writer.isOpened():
            raise RuntimeError(f"OpenCV cannot write {self._fourcc} here.")
        for pixels in job.frames:
            writer.write(pixels)
        writer.release()

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the frame as PyAV decodes it."""
        return read_video(path / self._file, index)


SUFFIXES = {"H264": ".mp4", "MJPG": ".avi", "FFV1": ".mkv"}


def read_video(path: Path, index: int) -> NDArray[Any]:
    """Return one frame of a video as PyAV decodes it."""
    import av

    with av.open(str(path), "r") as file:
        frames = (frame for n, frame in enumerate(file.decode(video=0)) if n == index)
        return np.asarray(next(frames).to_ndarray(format="gray"))


ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "H264": ("libx264", "yuv420p", {"preset": "veryfast", "crf": "18", "tune": "zerolatency"}),
    "MJPG": ("mjpeg", "yuvj420p", {"qmin": "2", "qmax": "2"}),
    "FFV1": ("ffv1", "gray", {"level": "3", "slicecrc": "1", "slices": "12", "g": "1"}),
}
"""Encoder, pixel format and options of the bare loops: the quality that our writer asks for."""
FPS = 30

VIDEOS: list[Candidate] = [
    *(one(fourcc) for fourcc in ("H264", "MJPG", "FFV1") for one in (Video, BarePyAV)),
    BareOpenCV("MJPG"),
    BareOpenCV("FFV1"),
]


# The yardstick: what the disk takes from one thread that goes round the page cache.
#
# The file's space is claimed beforehand, frames are copied into one aligned buffer, and each full
# buffer is written before the next frame is copied. Frames that do not fill whole blocks lie back
# to back, so the same bytes reach the disk in every scenario.


class BareLoop(Candidate):
    """An aligned `O_DIRECT` loop, one write at a time."""

    name = "bare"
    label = "bare O_DIRECT loop"

    def available(self) -> str | None:
        """Return why not: only Linux has `O_DIRECT`."""
        return None if hasattr(os, "O_DIRECT") else "this system has no O_DIRECT"

    def run(self, job: Job) -> None:
        """Write the frames back to back."""
        total = job.n * job.frame_bytes
        descriptor = os.open(job.path / FILE, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, total + BUFFER_BYTES)
            n_bytes = _write_all(descriptor, job)
            os.ftruncate(descriptor, n_bytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path, index: int) -> NDArray[Any] | None:
        """Return nothing: a raw file has no shape."""
        return None


FILE = "bare.raw"
BUFFER_BYTES = 8 * 2**20
"""One frame of 2048 x 2048; smaller frames are gathered, or the disk would wait for each."""


def _write_all(descriptor: int, job: Job) -> int:
    """Stream the frames through one aligned buffer; return their bytes."""
    buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))  # anonymous maps begin on a page
    target = np.frombuffer(buffer, np.uint8)
    offset = filled = 0
    for frame in job.frames:
        source = frame.reshape(-1).view(np.uint8)
        while source.size:
            part = min(source.size, BUFFER_BYTES - filled)
            target[filled : filled + part] = source[:part]
            source, filled = source[part:], filled + part
            if filled == BUFFER_BYTES:
                offset += os.pwrite(descriptor, buffer, offset)
                filled = 0
    # The rest is written with whatever fills its last buffer, and cut off by the caller.
    if filled:
        os.pwrite(descriptor, buffer, offset)
    return offset + filled


CANDIDATES: dict[str, Candidate] = {
    one.name: one for one in [BareLoop(), *OURS, *WHOLE_WAY, *VIDEOS]
}

MEASURED_BY = ["-m", "mda_writers.bench.measure"]
"""Python's arguments for the process of one measurement; a script that adds candidates to the
table puts itself here, since that process has to know them, too."""


def read_zarr(path: Path, index: int) -> NDArray[Any]:
    """Return one frame of a Zarr array as zarr-python reads it."""
    import zarr

    return np.asarray(zarr.open_array(path, mode="r")[index])


def read_zarr_named(file: str) -> Callable[[Path, int], NDArray[Any]]:
    """Return a reader of frames of the first array in the OME-Zarr `file`."""
    return lambda path, index: read_zarr(path / file / "0", index)
