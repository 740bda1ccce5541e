"""The codecs that a video may have, by their four letters: who encodes them, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

GOP_FRAMES = 30
"""Frames from one key frame to the next: what a reader decodes at most to show any one frame."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One codec as this package uses it: frame by frame, nothing held back for later.

    Attributes
    ----------
    fourcc : str
        Its four letters, as OpenCV users know them.
    encoder : str
        FFmpeg's encoder.
    options : dict
        What the encoder is told.
    grey, colour : str
        FFmpeg's pixel formats for 8 bits.
    grey16, colour16 : str
        The same for 16 bits; empty where the codec has none.
    lossless : bool
        Whether what is read back is what was given.
    intra : bool
        Whether every frame is a key frame.
    even : bool
        Whether width and height must be even.
    nal_units : bool
        Whether frames are made of NAL units (ITU-T H.264 and H.265).
    jpeg_quality : int
        Quality of OpenCV's JPEG, which then encodes the frames; 0 where FFmpeg does.
    tag : str
        How the stream is marked in an MP4, where FFmpeg's own choice is not what players want.
    avi_tag : str
        The same in an AVI.
    nearest : tuple of str
        What to use instead where this one cannot be encoded, best first.
    """

    fourcc: str
    encoder: str
    options: dict[str, str] = field(default_factory=dict)
    grey: str = "yuv420p"
    colour: str = "yuv420p"
    grey16: str = ""
    colour16: str = ""
    lossless: bool = False
    intra: bool = False
    even: bool = True
    nal_units: bool = False
    jpeg_quality: int = 0
    tag: str = ""
    avi_tag: str = ""
    nearest: tuple[str, ...] = ()

    @property
    def encoded_by(self) -> str:
        """Who encodes it."""
        return "JPEG (OpenCV)" if self.jpeg_quality else f"{self.encoder} (PyAV)"

    def pixel_format(self, is_color: bool, stored: str) -> str:
        """Return the pixel format for values of type `stored`; empty if there is none."""
        if stored == "uint16":
            return self.colour16 if is_color else self.grey16
        return self.colour if is_color else self.grey


_X264 = {
    "preset": "veryfast",
    "crf": "18",  # "visually lossless", https://trac.ffmpeg.org/wiki/Encode/H.264
    "tune": "zerolatency",  # every frame leaves the encoder at once
}
_X265 = {
    "preset": "superfast",
    "crf": "20",
    "tune": "zerolatency",
    "x265-params": "log-level=none",
}
_VP9 = {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0", "crf": "20", "b": "0"}
_MPEG4 = {"qmin": "2", "qmax": "3"}

CODECS = {
    codec.fourcc: codec
    for codec in (
        Codec("H264", "libx264", _X264, nal_units=True, nearest=("mp4v", "XVID", "MJPG")),
        Codec(
            "HEVC", "libx265", _X265, nal_units=True, tag="hvc1", nearest=("H264", "mp4v", "MJPG")
        ),
        Codec("VP90", "libvpx-vp9", _VP9, nearest=("H264", "mp4v", "MJPG")),
        Codec("mp4v", "mpeg4", _MPEG4, nearest=("XVID", "H264", "MJPG")),
        Codec("XVID", "mpeg4", _MPEG4, avi_tag="XVID", nearest=("mp4v", "H264", "MJPG")),
        Codec(
            "MJPG",
            "mjpeg",
            grey="yuvj420p",
            colour="yuvj420p",
            intra=True,
            # as close to the pixels as FFmpeg's encoder at its best usual quality (40 dB for a
            # camera's noise), in a third of its time
            jpeg_quality=93,
            nearest=("H264", "mp4v", "XVID"),
        ),
        Codec(
            "FFV1",
            "ffv1",
            {"level": "3", "slicecrc": "1", "slices": "12"},
            grey="gray",
            colour="bgr0",
            grey16="gray16le",
            colour16="gbrp16le",
            lossless=True,
            intra=True,
            even=False,
            # nothing else keeps what lossless promises
        ),
    )
}
"""Four letters → codec."""

_OTHER_NAMES = {
    "AVC1": "H264",
    "X264": "H264",
    "H265": "HEVC",
    "X265": "HEVC",
    "HVC1": "HEVC",
    "HEV1": "HEVC",
    "VP09": "VP90",
    "MP4V": "mp4v",
    "FMP4": "mp4v",
    "DIVX": "XVID",
    "MJPEG": "MJPG",
    "JPEG": "MJPG",
}

UNKNOWN_NEAREST = ("H264", "mp4v", "XVID", "MJPG")
"""What to use instead of a codec that is not in the table."""


def find_codec(fourcc: str) -> Codec | None:
    """Return the codec of that name, however it is written; None if there is none."""
    name = fourcc.upper()
    return CODECS.get(_OTHER_NAMES.get(name, name))
