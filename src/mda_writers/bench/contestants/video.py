"""Videos: our writer, and the bare encoders that it is measured against."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job
from mda_writers.bench.contestants.ours import DirectMode

FPS = 30
SUFFIXES = {"H264": ".mp4", "MJPG": ".avi", "FFV1": ".mkv"}
ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "H264": ("libx264", "yuv420p", {"preset": "veryfast", "crf": "18", "tune": "zerolatency"}),
    "MJPG": ("mjpeg", "yuvj420p", {"qmin": "2", "qmax": "2"}),
    "FFV1": ("ffv1", "gray", {"level": "3", "slicecrc": "1", "slices": "12", "g": "1"}),
}
"""Encoder, pixel format and options of the bare loops: the quality that our writer asks for."""


class Video(DirectMode):
    """`CV2Writer`."""

    needs = ("mda_writers.writers.cv2", "av")
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


class BarePyAV(Contestant):
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


class BareOpenCV(Contestant):
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


def read_video(path: Path, index: int) -> NDArray[Any]:
    """Return one frame of a video as PyAV decodes it."""
    import av

    with av.open(str(path), "r") as file:
        frames = (frame for n, frame in enumerate(file.decode(video=0)) if n == index)
        return np.asarray(next(frames).to_ndarray(format="gray"))
