"""BigTIFF, uncompressed: every frame's place is known before it comes."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from mda_writers.errors import DiskFullError
from mda_writers.formats.base import Format, FrameArray
from mda_writers.formats.tiff.compressed import (
    CompressedTiffArray,
    compressed_pixels,
    is_compressed,
)
from mda_writers.formats.tiff.finish import (
    around,
    describe,
    end_laid_out,
    file_order,
    put,
    split_alone,
)
from mda_writers.formats.tiff.layout import DATA_OFFSET, MappedPlanes, PlanePlaces
from mda_writers.formats.tiff.ome_xml import OmeXml, pixel_type
from mda_writers.storage.block_file import BlockFile, sync_file
from mda_writers.storage.disk_space import free_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.base import Place
    from mda_writers.model.layout import ImageLayout, Layout, PlaneInfo
    from mda_writers.storage.write_pool import WritePool


FIRST_CAPACITY_BYTES = 256 << 20
"""Room made at first for an image that grows; then it doubles, by at most `MOST_GROWTH_BYTES`."""

MOST_GROWTH_BYTES = 4 << 30


class BigTiffFormat(Format):
    """The files of one recording as BigTIFF or OME-TIFF: how they begin, and their final form.

    Parameters
    ----------
    set_id : str
        The recording's UUID.
    ome : bool
        Whether the files describe themselves with OME-XML.
    compression : str or None
        How to compress new files; see `CompressedTiffArray`.
    """

    name = "bigtiff"

    def __init__(self, set_id: str, ome: bool, compression: str | None = None) -> None:
        self._xml = OmeXml(set_id) if ome else None
        self._compression = compression

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> BigTiffFormat:
        """Return the format of the recording whose journal has this header."""
        return cls(header["set_id"], ome=".ome.tif" in header["path"].lower())

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: WritePool
    ) -> BigTiffArray | CompressedTiffArray:
        """Begin the file of one image of the recording `layout`."""
        if self._compression is not None:
            ome = self._xml is not None
            return CompressedTiffArray(path, image, pool, self._compression, ome)
        return BigTiffArray(path, image, pool, layout, self._xml)

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> None:
        """Bring every file into its final form; arrays of a user's own are left alone."""
        # the journal says it, not the file: that may be damaged. The only plane of a file that
        # others link to is in two pieces and has no offset, either; it is described alike
        compressed = {
            key
            for key, some in planes.items()
            if planes_laid_out.get(key) and some[0].offset_bytes is None
        }
        ends = [
            file_order(image, planes[image.key], image.growing or image.key in compressed)
            for image in layout.images
        ]
        layout = replace(layout, images=tuple(image for image, _, _ in ends))
        found = {image.key: some for image, some, _ in ends}
        unordered = {image.key: some for image, some, in_order in ends if not in_order}
        ours = [end for end in ends if planes_laid_out.get(end[0].key)]
        self._split_alone(folder, layout, [i for i, _, _ in ours if i.key not in compressed])
        for image, some, in_order in ours:
            path, xml = folder / image.file, None
            with self.unfinished(image.file):
                if self._xml is not None:
                    xml = self._xml.for_image(layout, image.key, found, unordered, compressed)
                if image.key not in compressed:
                    count = image.planes if in_order else len(some)
                    end_laid_out(path, image, layout, xml, count, is_linked(image, self._xml))
                elif xml is not None:
                    describe(path, xml)
                sync_file(path)

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """Return the image's file; planes that are compressed lie between its directories."""
        if not planes_laid_out:
            return
        if image.file in ends:
            yield image.file, (DATA_OFFSET, ends[image.file])
        else:
            yield image.file, compressed_pixels(folder / image.file)

    def _split_alone(self, folder: Path, layout: Layout, images: Sequence[ImageLayout]) -> None:
        """Make files fit for links that turned out to have one plane, before any file has them."""
        if self._xml is None:
            return
        for image in images:
            if image.planes == 1 and is_linked(image, self._xml):
                xml = self._xml.for_image(replace(layout, images=(image,)), image.key)
                with self.unfinished(image.file):
                    split_alone(folder / image.file, image, layout, xml)

    def discard(self, path: Path) -> None:
        """Remove a file that no frame came for."""
        path.unlink(missing_ok=True)

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps a reader from finding the planes of a file; nothing if all is well."""
        linked = is_linked(image, self._xml)
        return damage_of(path, PlanePlaces(image.frame_shape, image.dtype, linked))

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of one frame, found the way any reader of TIFF finds them."""
        with tifffile.TiffFile(path) as tif:
            return np.asarray(tif.pages[ours["ifd"]].asarray())


def damage_of(path: Path, places: PlanePlaces) -> str:
    """Return what keeps a reader from finding the planes of a file; nothing if all is well."""
    try:
        if is_compressed(path):
            return ""
        with _complaints() as complaints, tifffile.TiffFile(path) as tif:
            offsets = _plane_offsets(tif)
    except Exception as error:  # whatever a damaged file makes tifffile do
        return f"no readable TIFF ({type(error).__name__}: {error})"
    if complaints:
        return f"its directory is cut or altered ({complaints[0]})"
    if not np.array_equal(offsets, places.offsets(len(offsets))):
        return "its directory is altered: a plane is not where it was written"
    return ""


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs in the block: of a damaged file it reads what it can."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = tifffile.logger()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _plane_offsets(tif: tifffile.TiffFile) -> np.ndarray:
    """Return where the directory of each plane says that its pixels begin."""
    tif.pages.cache = False
    tif.pages.useframes = True
    tif.pages.set_keyframe(0)
    return np.array([page.dataoffsets[0] for page in tif.pages], int)


class BigTiffArray(FrameArray):
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

    planes = 0

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
