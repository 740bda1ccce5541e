"""The final form of a TIFF: no more planes than were taken, and the whole description."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from mda_writers.formats.tiff_layout import DATA_OFFSET, TiffLayout, lay_out, xml_bytes
from mda_writers.storage.block_file import BlockFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo


def final_sizes(image: ImageLayout, places: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """Return the sizes of what was really taken.

    The slowest axis is cut behind the last frame; where it is of length one, the next. What an
    image that grows has taken is its size.
    """
    indices = np.array(places, int).reshape(len(places), len(image.sizes))
    taken = indices.max(axis=0, initial=-1) + 1
    if image.growing:
        return dict(zip(image.sizes, map(int, taken), strict=True))
    sizes = dict(image.sizes)
    for axis, n in zip(image.sizes, taken, strict=True):
        sizes[axis] = int(n)
        if n > 1:
            break
    return sizes


def file_order(
    image: ImageLayout, planes: Sequence[PlaneInfo], arrived: bool
) -> tuple[ImageLayout, list[PlaneInfo], bool]:
    """Return the image and its planes with the axes in the order in which the planes lie.

    Parameters
    ----------
    image : ImageLayout
        With its final sizes.
    planes : sequence of PlaneInfo
        The planes that were written.
    arrived : bool
        Whether they lie in order of arrival, rather than each at its planned place.

    Returns
    -------
    image, planes, in_order
        `in_order` is False when no order of the axes describes how the planes lie; each must
        then name its own IFD.
    """
    if not arrived:
        return image, list(planes), True
    places = np.array([plane.place for plane in planes]).reshape(len(planes), -1)
    ifds = np.array([plane.ifd for plane in planes])
    axes = list(image.sizes)
    for order in permutations(range(len(axes))):
        sizes = {axes[n]: image.sizes[axes[n]] for n in order}
        slots = places[:, order] @ _strides(tuple(sizes.values()))
        if len(planes) == image.planes and np.array_equal(slots, ifds):
            moved = [replace(p, place=tuple(p.place[n] for n in order)) for p in planes]
            return replace(image, sizes=sizes), moved, True
    return image, list(planes), False


def _strides(sizes: tuple[int, ...]) -> np.ndarray:
    return np.array([prod(sizes[n + 1 :]) for n in range(len(sizes))], int)


def end_laid_out(
    path: Path, image: ImageLayout, layout: Layout, xml: str | None, planes: int, laid_out: int
) -> None:
    """Bring a file that was laid out beforehand into its final form.

    Parameters
    ----------
    path : Path
        The file; nobody else writes to it.
    image, layout : ImageLayout, Layout
        The image with its final sizes, and the recording.
    xml : str or None
        The whole OME-XML; None for a plain TIFF.
    planes : int
        Number of planes that the file shall have.
    laid_out : int
        Number of planes that it has room for.
    """
    file = BlockFile(path, direct=False)
    try:
        if planes != laid_out:
            new = around(image, planes, layout, xml)
            _switch(file, path, new, DATA_OFFSET + laid_out * image.frame_bytes, xml)
        elif xml is not None:  # the IFDs stay as they are; for 100 000 planes they are 25 MB
            describe(path, xml)
        file.sync()
    finally:
        file.close()


def _switch(file: BlockFile, path: Path, new: TiffLayout, old_tail: int, xml: str | None) -> None:
    """Put a new layout into a file that has one already, killed at any moment or not."""
    if new.tail_offset + len(new.tail) <= old_tail:
        put(file, new)
        file.truncate(new.tail_offset + len(new.tail))
        return
    # The new IFDs would lie on the old ones: keep those, there are as many or a few more, and
    # hang the new description behind everything.
    if xml is not None:
        file.close()
        describe(path, xml)


def describe(path: Path, xml: str) -> None:
    """Put the whole OME-XML behind everything else, and have the first IFD point to it."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["ImageDescription"].overwrite(xml_bytes(xml))


def put(file: BlockFile, new: TiffLayout) -> None:
    """Put everything but the pixels into a file, such that it is a valid TIFF at every moment."""
    file.patch(new.tail_offset, new.tail)
    file.patch(0, new.head)


def around(image: ImageLayout, planes: int, layout: Layout, xml: str | None) -> TiffLayout:
    """Lay out all of an image's file but the pixels."""
    return lay_out(
        planes,
        image.frame_shape,
        image.dtype,
        xml=xml,
        axes=image.sizes,
        pixel_size_um=layout.pixel_size_um,
    )
