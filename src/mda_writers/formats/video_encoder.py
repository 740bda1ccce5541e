"""The encoder of one video: pixels in, the bytes to append to its file out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mda_writers.formats.video_codecs import GOP_FRAMES
from mda_writers.formats.video_container import CONTAINERS, Packet, length_prefixed
from mda_writers.formats.video_frames import BT601_625, BT709, FULL, LIMITED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from av.video.stream import VideoStream

    from mda_writers.formats.video_codecs import Codec

REAL_TICKS_PER_S = 90_000
"""Resolution of real presentation times, where the container lets us choose: MPEG's own clock."""

SLICED_PIXELS = 16
"""Height and width from which FFV1 can be cut into slices, which several cores encode."""


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
