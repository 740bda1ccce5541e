"""The final form of a TIFF: no more planes than were taken, and the whole description."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import permutations
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.tiff.layout import (
    DATA_OFFSET,
    IMAGE_DESCRIPTION,
    STRIP_OFFSETS,
    FirstIfd,
    PlanePlaces,
    TiffLayout,
    lay_out,
    xml_bytes,
)
from mda_writers.storage.block_file import BlockFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mda_writers.formats.tiff.layout import Tag
    from mda_writers.model.layout import ImageLayout, Layout, PlaneInfo


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
    path: Path, image: ImageLayout, layout: Layout, xml: str | None, planes: int, linked: bool
) -> None:
    """Bring a file that was laid out beforehand into its final form, and see it safe on the disk.

    What the file is like by now is asked of itself: an end that was killed can be repeated.

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
    linked : bool
        Whether other files link to it.
    """
    places = PlanePlaces(image.frame_shape, image.dtype, linked)
    if not _has_planes(read_head(path), places, planes):
        _lay_out_anew(path, image, layout, xml, planes, places)
    elif xml is not None:  # the IFDs stay as they are; for 100 000 planes they are 25 MB
        describe(path, xml)
    else:
        cut_behind(path, around(image, planes, layout, xml, linked))


def split_alone(path: Path, image: ImageLayout, layout: Layout, xml: str) -> None:
    """Put the last row of a file's only plane apart, before any file links to that plane."""
    places = PlanePlaces(image.frame_shape, image.dtype, linked=True)
    if not _has_planes(read_head(path), places, 1):
        _lay_out_anew(path, image, layout, xml, 1, places)


def describe(path: Path, xml: str) -> None:
    """Put the whole OME-XML behind everything else, then have the first IFD point to it.

    Killed at any moment, a file has its old description or the new one.

    Raises
    ------
    CorruptRecordingError
        If the file has no description to replace.
    """
    head = bytearray(read_head(path))
    tag = FirstIfd(head).get(IMAGE_DESCRIPTION)
    if tag is None:
        raise CorruptRecordingError(
            f"{path}: its header is damaged; the description has no place in it. The frames that "
            "the recording's journal lists can still be read with open_dataset."
        )
    text, size = xml_bytes(xml) + b"\0", path.stat().st_size
    # nothing is behind a description but what an end that was killed has left
    used = tag.value_at + tag.count if tag.value_at >= DATA_OFFSET else size
    offset = used + used % 2
    struct.pack_into("<QQ", head, tag.entry_at + 4, len(text), offset)
    file = BlockFile(path, direct=False)
    try:
        if used < size:
            file.truncate(used)
        if _text_of(path, tag) == text:
            return file.sync()
        put(file, TiffLayout(head, text, offset), synced=True)
    finally:
        file.close()


def cut_behind(path: Path, layout: TiffLayout) -> None:
    """Cut off what an end that was killed left behind a layout, and see the file safe."""
    end = layout.tail_offset + len(layout.tail)
    file = BlockFile(path, direct=False)
    try:
        if end < path.stat().st_size and read_head(path) == layout.head:
            file.truncate(end)
        file.sync()
    finally:
        file.close()


def put(file: BlockFile, new: TiffLayout, *, synced: bool = False) -> None:
    """Put everything but the pixels into a file, such that it is a valid TIFF at every moment.

    What `new` is written over must not be in use. With `synced`, that is true after a power cut,
    too, and all is on the disk on return.
    """
    file.patch(new.tail_offset, new.tail)
    if synced:
        file.sync()
    file.patch(0, new.head)
    if synced:
        file.sync()


def switch(path: Path, file: BlockFile, lay_out: Callable[[int | None], TiffLayout]) -> None:
    """Put another layout into a file that has one, and cut off what it does not need any more.

    Parameters
    ----------
    path, file : Path, BlockFile
        The file.
    lay_out : callable
        Makes the layout, its IFDs at a given offset; None for directly behind the pixels.
    """
    size = path.stat().st_size
    new = lay_out(None)
    if new.tail_offset + len(new.tail) > _begin_of_tail(read_head(path), size):
        # it would lie on the old one, which is in use until the switch: it goes behind
        new = lay_out(size + -size % 16)
    put(file, new, synced=True)
    if new.tail_offset + len(new.tail) < size:
        file.truncate(new.tail_offset + len(new.tail))
        file.sync()


def around(
    image: ImageLayout,
    planes: int,
    layout: Layout,
    xml: str | None,
    linked: bool = False,
    tail_offset: int | None = None,
) -> TiffLayout:
    """Lay out all of an image's file but the pixels."""
    return lay_out(
        planes,
        image.frame_shape,
        image.dtype,
        xml=xml,
        axes=image.sizes,
        pixel_size_um=layout.pixel_size_um,
        linked=linked,
        tail_offset=tail_offset,
    )


def read_head(path: Path) -> bytes:
    """Return what lies before the pixels."""
    with path.open("rb") as stream:
        return stream.read(DATA_OFFSET)


def _has_planes(head: bytes, places: PlanePlaces, planes: int) -> bool:
    """Whether a file is laid out for so many planes, its IFDs directly behind them."""
    tags = FirstIfd(head)
    strips = tags.get(STRIP_OFFSETS)
    if strips is None or (strips.count == 2) != places.is_split(planes):
        return False
    return tags.next_ifd == (places.end(planes) if planes > 1 else 0)


def _lay_out_anew(
    path: Path,
    image: ImageLayout,
    layout: Layout,
    xml: str | None,
    planes: int,
    places: PlanePlaces,
) -> None:
    file = BlockFile(path, direct=False)
    try:
        if places.is_split(planes):
            with path.open("rb") as stream:
                stream.seek(DATA_OFFSET + places.frame_bytes - places.row_bytes)
                file.patch(places.offset(1), stream.read(places.row_bytes))
        switch(path, file, lambda offset: around(image, planes, layout, xml, places.linked, offset))
    finally:
        file.close()


def _begin_of_tail(head: bytes, size: int) -> int:
    """Return from where on a file's bytes are in use by its first IFD."""
    tags = FirstIfd(head)
    begins = [tags.next_ifd, *(tag.value_at for tag in tags.values())]
    return min((at for at in begins if at >= DATA_OFFSET), default=size)


def _text_of(path: Path, tag: Tag) -> bytes:
    with path.open("rb") as stream:
        stream.seek(tag.value_at)
        return stream.read(tag.count)
