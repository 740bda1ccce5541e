"""Frames become packets of a video, on threads of their own."""

from __future__ import annotations

import io
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.video.codecs import GOP_FRAMES
from mda_writers.formats.video.container import CONTAINERS, Packet, length_prefixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av.video.stream import VideoStream

    from mda_writers.formats.video.codecs import Codec


REAL_TICKS_PER_S = 90_000
"""Resolution of real presentation times, where the container lets us choose: MPEG's own clock."""

SLICED_PIXELS = 16
"""Height and width from which FFV1 can be cut into slices, which several cores encode."""

# the numbers that ISO/IEC 23091-2 gives them, as FFmpeg uses them
LIMITED, FULL = 1, 2
BT709, BT601_625 = 1, 5

CORES = max(2, min(8, os.cpu_count() or 2))
"""Encoders of one video at most. More would be faster than any camera."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What the encoder is to be made for.

    Attributes
    ----------
    codec : Codec
        How to encode.
    suffix : str
        The kind of file: ``.mp4``, ``.mkv`` or ``.avi``.
    shape : tuple of int
        ``(y, x)`` or ``(y, x, 3)`` of the frames, before padding.
    stored : str
        Type of the values: ``uint8`` or ``uint16``.
    fps : Fraction
        Nominal rate.
    real_times : bool
        Whether frames have presentation times other than those of the nominal rate.
    tags : mapping
        Texts for the file's header.
    """

    codec: Codec
    suffix: str
    shape: tuple[int, ...]
    stored: str
    fps: Fraction
    real_times: bool
    tags: Mapping[str, str]

    @property
    def is_color(self) -> bool:
        """Whether there are three values a pixel."""
        return len(self.shape) == 3

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width in the video: even where the codec wants that, never cropped."""
        height, width = self.shape[:2]
        if not self.codec.even:
            return height, width
        return height + height % 2, width + width % 2


class Encoder:
    """Encodes with PyAV (FFmpeg), or OpenCV where that is faster, frame by frame.

    Two encoders made for the same `picture` make the same header, so that one may be closed and
    another go on with its video.

    Parameters
    ----------
    picture : Picture
        What to encode.

    Raises
    ------
    av.FFmpegError
        If this machine cannot.
    """

    def __init__(self, picture: Picture) -> None:
        import av

        self._picture = picture
        self._container = CONTAINERS[picture.suffix]
        buffer = io.BytesIO()
        self._file = av.open(
            buffer, "w", format=self._container.name, options=self._container.header_options
        )
        self._file.metadata.update(picture.tags)
        self._stream = self._add_stream()
        self._file.start_encoding()
        self.header = buffer.getvalue()

    def encode(self, frame: Any, number: int, time_s: Fraction | float) -> bytes:
        """Return what to append to the file for a frame.

        Parameters
        ----------
        frame : av.VideoFrame or np.ndarray
            As a `FrameMaker` for the same picture made it.
        number : int
            Its number in the video.
        time_s : float
            When it is to be shown, in seconds from the first frame.
        """
        codec = self._picture.codec
        data, is_key = self._jpeg(frame) if codec.jpeg_quality else self._encoded(frame, number)
        packet = Packet(
            data=data,
            is_key=is_key or codec.intra,
            number=number,
            ticks=round(Fraction(time_s) / self.tick_s),
            duration=max(1, round(1 / self._picture.fps / self.tick_s)),
        )
        return self._container.piece(packet)

    @property
    def tick_s(self) -> Fraction:
        """Resolution of presentation times in the file, in seconds."""
        time_base = self._stream.time_base
        assert time_base is not None  # the header is written
        return time_base

    def close(self) -> None:
        """Let go of the encoder's memory."""
        self._file.close()

    # ------------------------------------------------------------ helpers

    def _encoded(self, frame: Any, number: int) -> tuple[bytes, bool]:
        """Return a frame as FFmpeg encodes it, and whether it needs none of those before it."""
        codec = self._picture.codec
        frame.pts = number
        frame.time_base = 1 / self._picture.fps
        packets = self._stream.encode(frame)
        if len(packets) != 1:
            raise RuntimeError(f"{codec.encoder} gave {len(packets)} packets for frame {number}.")
        data = bytes(packets[0])
        if codec.nal_units and not self._container.in_band:
            data = length_prefixed(data)
        return data, packets[0].is_keyframe

    def _jpeg(self, pixels: np.ndarray) -> tuple[bytes, bool]:
        """Return a frame as OpenCV encodes it; grey ones have no chroma."""
        import cv2

        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._picture.codec.jpeg_quality]
        done, data = cv2.imencode(".jpg", pixels, quality)
        if not done:
            raise RuntimeError(f"OpenCV could not make a JPEG of {pixels.shape}.")
        return data.tobytes(), True

    def _add_stream(self) -> VideoStream:
        picture, codec = self._picture, self._picture.codec
        stream: Any = self._file.add_stream(codec.encoder, rate=picture.fps)
        stream.height, stream.width = picture.padded
        stream.pix_fmt = codec.pixel_format(picture.is_color, picture.stored)
        stream.time_base = Fraction(1, REAL_TICKS_PER_S) if picture.real_times else 1 / picture.fps
        context = stream.codec_context
        context.time_base = 1 / picture.fps
        context.options = dict(codec.options)
        if min(picture.padded) < SLICED_PIXELS:
            context.options.pop("slices", None)
        context.gop_size = 1 if codec.intra else GOP_FRAMES
        context.max_b_frames = 0
        context.thread_type = "SLICE"  # threads that each take a frame would hold frames back
        if codec.intra:
            context.thread_count = 1  # several encoders share such a video's frames instead
        self._mark(stream)
        return stream  # type: ignore[no-any-return]

    def _mark(self, stream: Any) -> None:
        """Say what the stream is: its four letters, and what its colours mean."""
        codec, context = self._picture.codec, stream.codec_context
        tag = codec.avi_tag if self._container.in_band else codec.tag
        if tag and self._container.name != "matroska":
            context.codec_tag = tag
        if stream.pix_fmt.startswith("yuv"):
            full = stream.pix_fmt.startswith("yuvj")
            context.color_range = FULL if full else LIMITED
            context.colorspace = BT601_625 if full else BT709
            context.color_primaries = context.color_trc = BT709


class FrameMaker:
    """Makes FFmpeg's frames for the encoder of one picture. One thread at a time.

    Parameters
    ----------
    picture : Picture
        What the encoder is made for.
    """

    def __init__(self, picture: Picture) -> None:
        import av

        self._picture = picture
        self._source = _SOURCE_FORMATS[picture.stored, picture.is_color]
        self._target = picture.codec.pixel_format(picture.is_color, picture.stored)
        self._full = not self._target.startswith("yuv") or self._target.startswith("yuvj")
        self._reformatter = av.video.reformatter.VideoReformatter()

    def make(self, pixels: np.ndarray) -> Any:
        """Return what the encoder takes for `pixels`, whose colours are RGB."""
        if self._picture.codec.jpeg_quality:
            return _padded(pixels, self._picture.padded)
        if not self._picture.is_color:
            return self._grey_frame(pixels)
        import av

        given = av.VideoFrame.from_ndarray(
            _padded(pixels, self._picture.padded), format=self._source
        )
        if not self._target.startswith("yuv"):
            return self._reformatter.reformat(given, format=self._target)
        return self._reformatter.reformat(
            given,
            format=self._target,
            src_color_range=FULL,
            dst_color_range=FULL if self._full else LIMITED,
            dst_colorspace=BT601_625 if self._full else BT709,
        )

    def _grey_frame(self, pixels: np.ndarray) -> Any:
        """Return grey pixels as the first plane of a frame whose colours, if any, are none.

        FFmpeg's own conversion takes four times as long, a sixth of the whole encoding.
        """
        import av
        import cv2

        height, width = self._picture.padded
        frame = av.VideoFrame(width, height, self._target)
        rows, columns = pixels.shape
        luma = _rows_of(frame.planes[0], pixels.dtype)[:height, :width]
        if self._full:
            luma[:rows, :columns] = pixels
        else:
            cv2.LUT(pixels, _LIMITED_LUMA, dst=luma[:rows, :columns])
        luma[rows:, :columns] = luma[rows - 1 : rows, :columns]
        luma[:, columns:] = luma[:, columns - 1 : columns]
        for chroma in frame.planes[1:]:
            _rows_of(chroma, pixels.dtype)[:] = 128  # no colour
        return frame


def _rows_of(plane: Any, dtype: np.dtype) -> np.ndarray:
    """Return the memory of a plane as an array; its rows may be longer than the picture's."""
    values = np.frombuffer(plane, dtype)
    return values.reshape(-1, plane.line_size // dtype.itemsize)


def _padded(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `pixels` in that size, the last row and column repeated."""
    down, right = size[0] - pixels.shape[0], size[1] - pixels.shape[1]
    if not (down or right):
        return pixels
    return np.pad(pixels, ((0, down), (0, right), (0, 0))[: pixels.ndim], mode="edge")


_LIMITED_LUMA = np.rint(16 + np.arange(256) * 219 / 255).astype(np.uint8)
"""Grey to luma in the range that video players expect (ITU-R BT.709: black 16, white 235)."""

_SOURCE_FORMATS = {
    ("uint8", False): "gray",
    ("uint8", True): "rgb24",
    ("uint16", False): "gray16le",
    ("uint16", True): "rgb48le",
}


class EncodingThreads:
    """The encoders of one video, each on a thread of its own.

    Frames that need no others to be shown (MJPG, FFV1) are encoded several at once; those of
    other codecs one after the other, on one thread. All methods belong to the writing thread.

    Parameters
    ----------
    picture : Picture
        What to encode.

    Raises
    ------
    av.FFmpegError
        If this machine cannot.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._most = CORES if picture.codec.intra else 1
        self._first: Encoder | None = Encoder(picture)
        self.header = self._first.header
        self.tick_s = self._first.tick_s
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def encode(self, frame: Any, number: int, time_s: Fraction | float) -> Future[bytes]:
        """Return what will hold the bytes of a frame; the arguments are those of `Encoder`'s."""
        job = _Job(frame, number, time_s)
        waiting = not self._jobs.empty()
        self._jobs.put(job)
        if not self._threads or (waiting and len(self._threads) < self._most):
            self._start_another()
        return job.piece

    def close(self) -> None:
        """Encode what was given, then close the encoders and end their threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        if self._first is not None:
            self._first.close()

    def _start_another(self) -> None:
        encoder, self._first = self._first, None
        # not an executor: those refuse work while the interpreter exits
        thread = threading.Thread(
            target=self._work,
            args=(encoder,),
            name=f"mda-writers-encode-{len(self._threads)}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _work(self, encoder: Encoder | None) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                encoder = encoder or Encoder(self._picture)
                job.piece.set_result(encoder.encode(job.frame, job.number, job.time_s))
            except BaseException as error:
                job.piece.set_exception(error)
            del job  # its pixels are not to wait for the next one
        if encoder is not None:
            encoder.close()


class _Job:
    def __init__(self, frame: Any, number: int, time_s: Fraction | float) -> None:
        self.frame = frame
        self.number = number
        self.time_s = time_s
        self.piece: Future[bytes] = Future()
