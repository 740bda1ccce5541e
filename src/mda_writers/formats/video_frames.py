"""Pixels as FFmpeg's encoders take them: their pixel format, range and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mda_writers.formats.video_encoder import Picture

# the numbers that ISO/IEC 23091-2 gives them, as FFmpeg uses them
LIMITED, FULL = 1, 2
BT709, BT601_625 = 1, 5


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
