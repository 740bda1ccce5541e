"""What a user may choose about a video, and what follows from it for the encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mda_writers.errors import FrameError
from mda_writers.formats.tiff.ome_xml import one_line
from mda_writers.formats.video.contrast import Contrast, full_contrast
from mda_writers.formats.video.encoder import Picture
from mda_writers.formats.video.reader import ABOUT_KEY
from mda_writers.model.encode import to_json

if TYPE_CHECKING:
    from fractions import Fraction

    from mda_writers.formats.video.codecs import Codec


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How videos are made; see ``CV2Writer``. `asked` is the codec that the user asked for."""

    codec: Codec
    asked: str
    suffix: str
    fps: Fraction
    contrast_limits: tuple[float, float] | Literal["full", "auto"] | None = None
    timing: Literal["constant", "real"] = "constant"
    scale: float = 1.0
    color_order: Literal["RGB", "BGR"] = "RGB"

    def scaled(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a frame in the video, before padding."""
        return (*(max(1, round(n * self.scale)) for n in shape[:2]), *shape[2:])

    def contrast(self, dtype: str, bit_depth: int | None) -> Contrast | None:
        """Return the mapping for pixels of a type; None if the first frames are to decide.

        Raises
        ------
        FrameError
            If such pixels do not fit the codec, or the limits that were asked for.
        """
        limits, kind = self.contrast_limits, np.dtype(dtype)
        small = kind.kind in "iub" and kind.itemsize <= 2
        if isinstance(limits, tuple):
            return Contrast(*limits, dtype)
        if kind.kind not in "iubf":
            raise FrameError(f"{dtype} pixels cannot be shown in a video; record them as TIFF.")
        if dtype == "uint8":
            return full_contrast(dtype)
        if limits is None and self.codec.lossless:
            if small:
                return full_contrast(dtype, stored="uint16" if kind.itemsize == 2 else "uint8")
            raise FrameError(
                f"{self.codec.fourcc} is lossless for up to 16 bits, and the frames are {dtype}. "
                'Give contrast_limits=(low, high) or "auto" for 8 bits, or record them as TIFF.'
            )
        if limits == "full" and kind.kind == "f":
            raise FrameError(
                f'contrast_limits="full": {dtype} has no fixed range. Give (low, high) or "auto".'
            )
        if limits == "auto" or not (small or limits == "full"):
            return None
        return full_contrast(dtype, bit_depth)

    def is_exact(self, contrast: Contrast) -> bool:
        """Whether what is read back is what was given, to the last bit."""
        whole = not isinstance(self.contrast_limits, tuple) and contrast.step <= 1
        return self.codec.lossless and self.scale == 1 and whole

    def picture(self, subject: Subject, contrast: Contrast) -> Picture:
        """Return what the encoder is to be made for; the file says about itself what is in it."""
        plain = Picture(
            codec=self.codec,
            suffix=self.suffix,
            shape=self.scaled(subject.frame_shape),
            stored=contrast.stored,
            fps=self.fps,
            real_times=self.timing == "real",
            tags={},
        )
        about = {**self._describe(subject, contrast), "padded": plain.padded}
        title = one_line(" ".join(text for text in (subject.name, subject.channel) if text))
        tags = {"title": title, "comment": to_json({ABOUT_KEY: about}).decode()}
        return replace(plain, tags=tags)

    def _describe(self, subject: Subject, contrast: Contrast) -> dict[str, Any]:
        return {
            "name": subject.name,
            "channel": subject.channel,
            "camera": subject.camera,
            "asked": self.asked,
            "fourcc": self.codec.fourcc,
            "encoder": self.codec.encoded_by,
            "lossless": self.is_exact(contrast),
            "fps": float(self.fps),
            "timing": self.timing,
            "frame_shape": subject.frame_shape,
            "scale": self.scale,
            "shape": self.scaled(subject.frame_shape),
            "color_order": self.color_order,
            "contrast": contrast.describe(),
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """What a video shows.

    Attributes
    ----------
    name, channel, camera : str
        Of the image and its channel.
    frame_shape : tuple of int
        As the frames are given.
    dtype : str
        Their pixel type.
    bit_depth : int or None
        Significant bits of the camera.
    """

    name: str
    channel: str
    camera: str
    frame_shape: tuple[int, ...]
    dtype: str
    bit_depth: int | None
