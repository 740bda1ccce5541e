"""The part of the page that shows images: a projection and three frames of every channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mda_writers.report.html import Html, el, join, name
from mda_writers.report.thumbnail import Contrast, thumbnail_uri

if TYPE_CHECKING:
    from mda_writers.report.facts import Facts
    from mda_writers.report.pixels import ChannelLook

SMALL = 120
"""Frames of fewer pixels are shown enlarged, pixel by pixel."""


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
        *(_row(each, f"h{int(heading[1]) + 1}") for each in look.looks),
    )


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
        pictures.append(_picture(look, pixels, contrast, what, f"({index})" if index else ""))
    return join([title, el("div", *pictures, class_="thumbs")])


def _title(look: ChannelLook) -> Html:
    parts = [look.image.name or look.image.key, look.channel]
    return join([name(part) for part in parts if part], " · ")


def _projection(look: ChannelLook, pixels: np.ndarray) -> Html:
    few = look.looked_at < look.frames
    of = f"of {look.looked_at:,} of {look.frames:,} frames" if few else f"of {look.frames:,} frames"
    return _picture(look, pixels, Contrast.of([pixels]), "Maximum", of)


def _picture(
    look: ChannelLook, pixels: np.ndarray, contrast: Contrast, what: str, which: str
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
            alt=f"{what} {which}, {where}, shown from {contrast}",
            class_="small" if max(pixels.shape[:2]) < SMALL else None,
        ),
        el("figcaption", f"{what} {which}", el("br"), str(contrast)),
    )
