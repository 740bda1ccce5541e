"""The images of a recording by their indices along the axes that choose an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mda_writers.model.layout import ImageLayout

_ORDER = ("p", "g", "row", "col", "cam")


class ImageTable:
    """Finds an image by its indices along p, g, cam and whatever axes a user adds.

    Parameters
    ----------
    images : sequence of ImageLayout
        All images of a recording.

    Attributes
    ----------
    axes : tuple of str
        The axes that choose an image.
    by_outer : dict
        Indices along `axes` → image.
    outer_of : dict
        Key of an image → its indices along `axes`.
    by_key : dict
        Key → image.
    by_index : dict
        The items of an image's own index → image: the first one, should there be several.
    """

    def __init__(self, images: Sequence[ImageLayout]) -> None:
        self.images = images
        self.axes = _outer_axes(images)
        self.by_outer: dict[tuple[int, ...], ImageLayout] = {}
        self.outer_of: dict[str, tuple[int, ...]] = {}
        self.by_key = {image.key: image for image in images}
        self.by_index = {frozenset(i.index.items()): i for i in reversed(images)}
        self._fill()

    def _fill(self) -> None:
        """Note the images by their indices along the outer axes.

        Events that name an axis now and then can give two images the same indices, as a missing
        one counts as 0; the later image then is a repetition, as for frames taken twice.
        """
        indices = [dict(image.index) for image in self.images]
        seen: dict[tuple[tuple[str, int], ...], int] = {}
        for index in indices:
            known = tuple(sorted((a, i) for a, i in index.items() if i and a != "repeat"))
            index["repeat"] = max(index.get("repeat", 0), seen.get(known, 0))
            seen[known] = index["repeat"] + 1
        if any(index["repeat"] for index in indices) and "repeat" not in self.axes:
            self.axes = (*self.axes, "repeat")
        for image, index in zip(self.images, indices, strict=True):
            outer = tuple(index.get(axis, 0) for axis in self.axes)
            self.by_outer[outer] = image
            self.outer_of[image.key] = outer


def _outer_axes(images: Sequence[ImageLayout]) -> tuple[str, ...]:
    used = {axis for image in images for axis in image.index}
    return (*(a for a in _ORDER if a in used), *sorted(used - {*_ORDER}))
