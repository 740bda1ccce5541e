"""Pictures of the page: sampled frames and their histograms."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.report.html import Html, el, join, name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mda_writers.report.facts import Facts
    from mda_writers.report.pixels import ChannelLook


SMALL = 120
"""Frames of fewer pixels are shown enlarged, pixel by pixel."""

LONGEST_SIDE = 240
"""Pixels; four beside each other fill the page."""

CONTRAST_SHARES = (0.1, 99.8)
"""Per cent of the pixels that are below black and white; hot pixels do not darken the rest."""


def pictures_section(facts: Facts, heading: str) -> Html | None:
    """Return thumbnails of the recording."""
    look = facts.pixels
    if look is None or not look.looks:
        return None
    shown = ""
    if look.images_shown < look.images:
        shown = f" {look.images_shown} of {look.images} images are shown, evenly chosen."
    return el(
        "section",
        el(heading, "Images"),
        el(
            "p",
            "Contrast is stretched: what is black and white is said below each picture, and is the "
            f"same for the frames of a channel.{shown}",
            class_="note",
        ),
        *_rows(look.looks, f"h{int(heading[1]) + 1}"),
    )


def _rows(looks: Iterable[ChannelLook], heading: str) -> Iterator[Html]:
    """Return a row for each channel; those of a single frame stand side by side."""
    for single, group in groupby(looks, lambda look: look.frames == 1 and not look.problem):
        if single:
            yield _single_frames(list(group))
        else:
            yield from (_row(look, heading) for look in group)


def _single_frames(looks: list[ChannelLook]) -> Html:
    """Return the only frames of images, such as the fields of a plate, to be compared."""
    frames: dict[str, list[np.ndarray]] = {}
    for look in looks:
        frames.setdefault(look.channel, []).append(look.views[0][2])
    contrasts = {channel: Contrast.of(pixels) for channel, pixels in frames.items()}
    pictures = (
        _picture(look, look.views[0][2], contrasts[look.channel], "Only frame", _title(look))
        for look in looks
    )
    return el("div", *pictures, class_="thumbs")


def _row(look: ChannelLook, heading: str) -> Html:
    title = el(heading, _title(look))
    if look.problem:
        return join(
            [title, el("p", f"The pixels could not be read: {look.problem}", class_="note")]
        )
    pictures = []
    if look.projection is not None:
        pictures.append(_projection(look, look.projection))
    contrast = Contrast.of([pixels for _, _, pixels in look.views])
    for what, index, pixels in look.views:
        caption = f"{what} ({index})" if index else what
        pictures.append(_picture(look, pixels, contrast, caption))
    return join([title, el("div", *pictures, class_="thumbs")])


def _title(look: ChannelLook) -> Html:
    parts = [look.image.name or look.image.key, look.channel]
    return join([name(part) for part in parts if part], " · ")


def _projection(look: ChannelLook, pixels: np.ndarray) -> Html:
    few = look.looked_at < look.frames
    of = f"{look.looked_at:,} of {look.frames:,}" if few else f"{look.frames:,}"
    return _picture(look, pixels, Contrast.of([pixels]), f"Maximum of {of} frames")


def _picture(
    look: ChannelLook, pixels: np.ndarray, contrast: Contrast, what: str, title: Html | None = None
) -> Html:
    uri, width, height = thumbnail_uri(pixels, contrast)
    where = " ".join(part for part in (look.channel, look.image.name or look.image.key) if part)
    return el(
        "figure",
        el(
            "img",
            src=uri,
            width=width,
            height=height,
            alt=f"{what}, {where}, shown from {contrast}",
            class_="small" if max(pixels.shape[:2]) < SMALL else None,
        ),
        el("figcaption", title or what, el("br"), str(contrast)),
    )


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
