"""The part of the page that shows images: a projection and three frames of every channel."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from mda_writers.report.html import Html, el, join, name
from mda_writers.report.thumbnail import Contrast, thumbnail_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

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
