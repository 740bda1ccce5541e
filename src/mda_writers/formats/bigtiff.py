"""BigTIFF: one file an image, its planes side by side, every place known beforehand."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import DiskFullError
from mda_writers.formats.image_array import ImageArray
from mda_writers.formats.ome_elements import pixel_type
from mda_writers.formats.tiff_ending import around, put
from mda_writers.formats.tiff_layout import DATA_OFFSET, MappedPlanes, PlanePlaces
from mda_writers.storage.block_file import BlockFile
from mda_writers.storage.space import free_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.formats.image_array import Place
    from mda_writers.formats.ome_xml import OmeXml
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.storage.write_pool import WritePool

FIRST_CAPACITY_BYTES = 256 << 20
"""Room made at first for an image that grows; then it doubles, by at most `MOST_GROWTH_BYTES`."""

MOST_GROWTH_BYTES = 4 << 30


class BigTiffArray(ImageArray):
    """One image as a BigTIFF on disk; ``array[index] = frame``.

    A planned image is laid out for its whole box, its planes in the order of its axes. One that
    grows takes its frames in order of arrival and is laid out anew, for more, when it is full.
    Planes lie side by side, except in files that others link to (see `PlanePlaces`).

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    image : ImageLayout
        What it will hold.
    pool : WritePool
        Takes the pixels to the disk.
    layout : Layout
        The recording that the image is part of.
    xml : OmeXml or None
        Describes the recording; None for a plain BigTIFF.
    """

    def __init__(
        self, path: Path, image: ImageLayout, pool: WritePool, layout: Layout, xml: OmeXml | None
    ) -> None:
        self.path = path
        self.image = image
        self._pool = pool
        self._layout = layout
        self._xml = xml
        self._places = PlanePlaces(image.frame_shape, image.dtype, is_linked(image, xml))
        self._frame_bytes = image.frame_bytes
        self._others = self._places.offset(1) - self._frame_bytes
        self._slots: dict[tuple[int, ...], int] = {}
        self._tail_bytes = 0
        self._strides = _strides(tuple(image.sizes.values()))
        if xml is not None:
            pixel_type(image.dtype)
        self._file = BlockFile(path)
        self.planes = 0 if image.growing else image.planes
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise

    # ------------------------------------------------------------ frames in

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        slot = self._slot(index)
        if slot >= self.planes:
            self._make_room()
        if slot:
            self._pool.write(self._file, self._offset(slot), frame)
            return
        for offset, part in self._places.parts(frame, self.planes):
            self._pool.write(self._file, offset, part)

    def flush(self) -> None:
        """Return when every frame so far is in the file."""
        self._pool.drain()

    def close(self) -> None:
        """Return when every frame so far is on the disk, and let go of the file."""
        try:
            self.flush()
            self._file.sync()
        finally:
            self._file.close()

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return where the frame of `index` lies in the file."""
        slot = self._slot(index)
        where = {"file": self.path.name, "ifd": slot}
        if self._places.is_split(self.planes):
            return where
        return {**where, "offset_bytes": self._offset(slot)}

    # ------------------------------------------------------------ helpers

    def _begin(self) -> None:
        if not self.image.growing:
            return self._lay_out(0)
        least = 2 if self._places.linked else 1  # with a second plane there is room for the gap
        return self._grow(0, max(least, _first_capacity(self.image)), least)

    def _slot(self, index: tuple[int, ...]) -> int:
        """Return the number of the plane in the file."""
        if self.image.growing:
            return self._slots.setdefault(tuple(index), len(self._slots))
        return sum(map(mul, index, self._strides))

    def _offset(self, slot: int) -> int:
        return self._others + slot * self._frame_bytes if slot else DATA_OFFSET

    def _make_room(self) -> None:
        most = max(1, MOST_GROWTH_BYTES // self.image.frame_bytes)
        # the new directories must not lie on the old ones, which are in use until the switch
        clear = -(-self._tail_bytes // self._frame_bytes)
        self._grow(self.planes, max(clear, min(self.planes, most)), least=clear)

    def _grow(self, before: int, planes: int, least: int) -> None:
        """Lay the file out for `planes` more, or for as many as the disk takes: at least `least`.

        With a quarter of what is free at a time, the room that is claimed and never used is
        small, and the disk guard sees the end coming.
        """
        planes = min(planes, free_bytes(self.path) // 4 // self.image.frame_bytes)
        while True:
            planes = max(least, planes)
            self.planes = before + planes
            try:
                return self._lay_out(before)
            except DiskFullError:
                self.planes = before
                if planes == least:
                    raise
                planes //= 2

    def _lay_out(self, planes_before: int) -> None:
        """Claim the room, then put the new IFDs behind it, then switch to them."""
        image = _by_arrival(self.image, self.planes)
        images = tuple(
            image if i.key == image.key else _by_arrival(i, i.planes) for i in self._layout.images
        )
        layout = replace(self._layout, images=images)
        xml = self._xml.for_image(layout, image.key) if self._xml else None
        new = around(image, self.planes, layout, xml, self._places.linked)
        room = new.tail_offset - self._offset(planes_before) + len(new.tail)
        if self._is_sparse():
            self._file.truncate(new.tail_offset + len(new.tail))
        else:
            self._file.claim(self._offset(planes_before), room)
        put(self._file, new)
        self._tail_bytes = len(new.tail)
        self._pool.wrote(self._file)  # readers of a set look for all of its files

    def _is_sparse(self) -> bool:
        """Whether the plan leaves out so much of the box that claiming it all would be a waste."""
        planned = self.image.frames_planned
        if self._layout.selective:
            return True
        return planned is not None and planned < 0.9 * self.planes

    def _sizes_now(self) -> tuple[int, ...]:
        if not self.image.growing:
            return super()._sizes_now()
        return tuple(
            max((i[n] for i in self._slots), default=-1) + 1 for n in range(len(self.image.sizes))
        )

    def _read(self, pixels: np.ndarray, wanted: list[tuple[Place, Place]]) -> None:
        split = self._places.is_split(self.planes)
        there = min(self.planes, self._places.planes_in(self.path.stat().st_size, split))
        if not there:
            return
        planes = MappedPlanes(self.path, self._places, there, split)
        for target, place in wanted:
            slot = self._slots.get(place, -1) if self.image.growing else self._slot(place)
            if 0 <= slot < len(planes):
                pixels[target] = planes.read(np.array([slot]))[0]


def is_linked(image: ImageLayout, xml: OmeXml | None) -> bool:
    """Return whether the files of other images link to the one of this image."""
    return image.one_of_several and xml is not None


def _by_arrival(image: ImageLayout, planes: int) -> ImageLayout:
    """Return an image as its file holds it by now: one that grows, in order of arrival.

    It has room for two planes at least.
    """
    if not image.growing:
        return image
    return replace(image, sizes={"t": max(2, planes)}, channels=())


def _strides(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(sizes[n + 1 :]) for n in range(len(sizes)))


def _first_capacity(image: ImageLayout) -> int:
    return int(min(64, max(1, FIRST_CAPACITY_BYTES // image.frame_bytes)))
