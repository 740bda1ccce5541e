"""Thumbnails: small PNGs with a contrast that can be told, as text for the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

LONGEST_SIDE = 240
"""Pixels; four beside each other fill the page."""

CONTRAST_SHARES = (0.1, 99.8)
"""Per cent of the pixels that are below black and white; hot pixels do not darken the rest."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Pixel values that are shown black and white."""

    black: float
    white: float

    @classmethod
    def of(cls, frames: list[np.ndarray]) -> Contrast:
        """Return a contrast that suits all of some frames."""
        some = np.concatenate([f.reshape(-1)[:: max(1, f.size // 65536)] for f in frames])
        finite = some[np.isfinite(some)].astype(np.float64)
        if not len(finite):
            return cls(0.0, 1.0)
        black, white = np.percentile(finite, CONTRAST_SHARES)
        return cls(float(black), float(white if white > black else black + 1))

    def __str__(self) -> str:
        return f"{self.black:.6g} – {self.white:.6g}"


def thumbnail_uri(frame: np.ndarray, contrast: Contrast) -> tuple[str, int, int]:
    """Return a frame as a ``data:`` URI of a PNG, with its width and height."""
    import cv2

    small = _shrunk(frame)
    scaled = (small - contrast.black) * (255 / (contrast.white - contrast.black))
    pixels = np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]  # OpenCV wants blue first
    _, png = cv2.imencode(".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    uri = "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()
    return uri, pixels.shape[1], pixels.shape[0]


def _shrunk(frame: np.ndarray) -> np.ndarray:
    """Return a frame as floats, each pixel of a smaller one being the mean of many."""
    import cv2

    height, width = frame.shape[:2]
    factor = LONGEST_SIDE / max(height, width)
    if factor >= 1:
        return frame.astype(np.float32)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # of what a frame of 100 megapixels has more than enough, every second line will do
    step = max(1, int(1 / factor) // 16)
    return np.asarray(
        cv2.resize(frame[::step, ::step].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    )
