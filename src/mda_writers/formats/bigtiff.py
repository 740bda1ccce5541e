"""BigTIFF: one file an image, its planes side by side, every place known beforehand."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from mda_writers.errors import DiskFullError
from mda_writers.formats.ome_xml import OmeXml, pixel_type
from mda_writers.formats.tiff_layout import DATA_OFFSET, TiffLayout, ascii_xml, lay_out
from mda_writers.storage.block_file import BlockFile
from mda_writers.storage.space import free_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo
    from mda_writers.storage.write_pool import WritePool

FIRST_CAPACITY_BYTES = 256 << 20
"""Room made at first for an image that grows; then it doubles, by at most `MOST_GROWTH_BYTES`."""

MOST_GROWTH_BYTES = 4 << 30


class BigTiffArray:
    """One image as a BigTIFF on disk; ``array[index] = frame``.

    A planned image is laid out for its whole box, its planes in the order of its axes. One that
    grows takes its frames in order of arrival and is laid out anew, for more, when it is full.

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
        self._frame_bytes = image.frame_bytes
        self._slots: dict[tuple[int, ...], int] = {}
        self._strides = _strides(tuple(image.sizes.values()))
        if xml is not None:
            pixel_type(image.dtype)
        self._file = BlockFile(path)
        self.planes = 0 if image.growing else image.planes
        try:
            self._grow(0, _first_capacity(image)) if image.growing else self._lay_out(0)
        except BaseException:
            self._file.close()
            raise

    # ------------------------------------------------------------ frames in

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        slot = self._slot(index)
        if slot >= self.planes:
            self._make_room()
        self._pool.write(self._file, self._offset(slot), frame)

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

    # ------------------------------------------------------------ pixels out

    def __getitem__(self, index: Any) -> np.ndarray:
        slots = self._slot_map()
        index = index if isinstance(index, tuple) else (index,)
        leading, within = index[: slots.ndim], index[slots.ndim :]
        chosen = np.asarray(slots[leading])
        planes = self._planes_in_file()
        pixels = np.zeros((*chosen.shape, *self.image.frame_shape), self.image.dtype)
        for place in np.ndindex(chosen.shape):
            if 0 <= chosen[place] < len(planes):
                pixels[place] = planes[chosen[place]]
        return pixels[(slice(None),) * chosen.ndim + tuple(within)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes; an image that grows tells those so far."""
        return (*self._sizes(), *self.image.frame_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """Pixel type."""
        return np.dtype(self.image.dtype)

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return where the frame of `index` lies in the file."""
        slot = self._slot(index)
        return {"file": self.path.name, "ifd": slot, "offset_bytes": self._offset(slot)}

    # ------------------------------------------------------------ helpers

    def _slot(self, index: tuple[int, ...]) -> int:
        """Return the number of the plane in the file."""
        if self.image.growing:
            return self._slots.setdefault(tuple(index), len(self._slots))
        return sum(map(mul, index, self._strides))

    def _offset(self, slot: int) -> int:
        return DATA_OFFSET + slot * self._frame_bytes

    def _make_room(self) -> None:
        most = max(1, MOST_GROWTH_BYTES // self.image.frame_bytes)
        self._grow(self.planes, min(self.planes, most))

    def _grow(self, before: int, planes: int) -> None:
        """Lay the file out for `planes` more, or for as many as the disk takes: at least one.

        With a quarter of what is free at a time, the room that is claimed and never used is
        small, and the disk guard sees the end coming.
        """
        planes = min(planes, free_bytes(self.path) // 4 // self.image.frame_bytes)
        while True:
            planes = max(1, planes)
            self.planes = before + planes
            try:
                return self._lay_out(before)
            except DiskFullError:
                self.planes = before
                if planes == 1:
                    raise
                planes //= 2

    def _lay_out(self, planes_before: int) -> None:
        """Claim the room, then put the new IFDs behind it, then switch to them."""
        image = self.image
        if image.growing:
            image = replace(image, sizes={"t": self.planes}, channels=())
        layout = _with_image(self._layout, image)
        xml = self._xml.for_image(layout, image.key) if self._xml else None
        around = _around(image, self.planes, self._layout, xml)
        room = around.tail_offset - self._offset(planes_before) + len(around.tail)
        if self._is_sparse():
            self._file.truncate(around.tail_offset + len(around.tail))
        else:
            self._file.claim(self._offset(planes_before), room)
        put(self._file, around)

    def _is_sparse(self) -> bool:
        """Whether the plan leaves out so much of the box that claiming it all would be a waste."""
        planned = self.image.frames_planned
        if self._layout.selective:
            return True
        return planned is not None and planned < 0.9 * self.planes

    def _sizes(self) -> tuple[int, ...]:
        if not self.image.growing:
            return tuple(self.image.sizes.values())
        return tuple(
            max((i[n] for i in self._slots), default=-1) + 1 for n in range(len(self.image.sizes))
        )

    def _slot_map(self) -> np.ndarray:
        if not self.image.growing:
            sizes = self._sizes()
            return np.arange(prod(sizes)).reshape(sizes)
        slots = np.full(self._sizes(), -1)
        for index, slot in list(self._slots.items()):
            slots[index] = slot
        return slots

    def _planes_in_file(self) -> np.ndarray:
        size = self.path.stat().st_size - DATA_OFFSET
        planes = min(self.planes, size // self.image.frame_bytes)
        shape = (planes, *self.image.frame_shape)
        if planes == 0:
            return np.zeros(shape, self.image.dtype)
        return np.memmap(self.path, self.image.dtype, "r", DATA_OFFSET, shape)


def put(file: BlockFile, around: TiffLayout) -> None:
    """Put everything but the pixels into a file, such that it is a valid TIFF at every moment."""
    file.patch(around.tail_offset, around.tail)
    file.patch(0, around.head)


def finish_tiff(
    path: Path,
    image: ImageLayout,
    layout: Layout,
    xml: OmeXml | None,
    planes: Sequence[PlaneInfo],
    planes_laid_out: int,
) -> None:
    """Bring a file into its final form: no more planes than were taken, and the whole OME-XML.

    Parameters
    ----------
    path : Path
        The file; nobody else writes to it.
    image : ImageLayout
        The image with its final sizes (`final_sizes`).
    layout : Layout
        The recording, its images with their final sizes.
    xml : OmeXml or None
        Describes the recording; None for a plain BigTIFF.
    planes : sequence of PlaneInfo
        The planes that were written; at least one.
    planes_laid_out : int
        Number of planes that the file has room for.
    """
    in_order, image = _storage_order(image, planes)
    layout = _with_image(layout, image)
    text = xml.for_image(layout, image.key, planes, in_order=in_order) if xml else None
    around = _around(image, image.planes if in_order else len(planes), layout, text)
    file = BlockFile(path, direct=False)
    try:
        _switch(file, path, around, DATA_OFFSET + planes_laid_out * image.frame_bytes, text)
        file.sync()
    finally:
        file.close()


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


def _switch(
    file: BlockFile, path: Path, around: TiffLayout, old_tail: int, xml: str | None
) -> None:
    """Put a new layout into a file that has one already, killed at any moment or not."""
    if around.tail_offset + len(around.tail) <= old_tail:
        put(file, around)
        file.truncate(around.tail_offset + len(around.tail))
        return
    # The new IFDs would lie on the old ones: keep those, there are as many or a few more, and
    # hang the new description behind everything.
    if xml is not None:
        file.close()
        _describe(path, xml)


def _describe(path: Path, xml: str) -> None:
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["ImageDescription"].overwrite(ascii_xml(xml))


def _around(image: ImageLayout, planes: int, layout: Layout, xml: str | None) -> TiffLayout:
    return lay_out(
        planes,
        image.frame_shape,
        image.dtype,
        xml=xml,
        axes=image.sizes,
        pixel_size_um=layout.pixel_size_um,
    )


def _storage_order(image: ImageLayout, planes: Sequence[PlaneInfo]) -> tuple[bool, ImageLayout]:
    """Return whether the planes lie in the order of some axes, and the image with that order."""
    if not image.growing:
        return True, image
    places = np.array([plane.place for plane in planes])
    ifds = np.array([plane.ifd for plane in planes])
    axes = list(image.sizes)
    for order in permutations(range(len(axes))):
        sizes = {axes[n]: image.sizes[axes[n]] for n in order}
        slots = np.ravel_multi_index(places[:, order].T, tuple(sizes.values()))
        if len(planes) == image.planes and np.array_equal(slots, ifds):
            return True, replace(image, sizes=sizes)
    return False, image


def _with_image(layout: Layout, image: ImageLayout) -> Layout:
    images = tuple(image if i.key == image.key else i for i in layout.images)
    return replace(layout, images=images)


def _strides(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(sizes[n + 1 :]) for n in range(len(sizes)))


def _first_capacity(image: ImageLayout) -> int:
    return int(min(64, max(1, FIRST_CAPACITY_BYTES // image.frame_bytes)))


class BigTiffFormat:
    """The files of one recording as BigTIFF or OME-TIFF: how they begin, and their final form.

    Parameters
    ----------
    set_id : str
        The recording's UUID.
    ome : bool
        Whether the files describe themselves with OME-XML.
    """

    name = "bigtiff"
    final_sizes = staticmethod(final_sizes)

    def __init__(self, set_id: str, ome: bool) -> None:
        self._xml = OmeXml(set_id) if ome else None

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> BigTiffFormat:
        """Return the format of the recording whose journal has this header."""
        return cls(header["set_id"], ome=".ome.tif" in header["path"].lower())

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: WritePool
    ) -> BigTiffArray:
        """Lay out the file of one image of the recording `layout`."""
        return BigTiffArray(path, image, pool, layout, self._xml)

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> None:
        """Bring every file into its final form; arrays of a user's own are left alone."""
        for image in layout.images:
            room = planes_laid_out.get(image.key)
            if room:
                path = folder / image.file
                finish_tiff(path, image, layout, self._xml, planes[image.key], room)

    def discard(self, path: Path) -> None:
        """Remove a file that no frame came for."""
        path.unlink(missing_ok=True)

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps a reader from finding the planes of a file; nothing if all is well."""
        try:
            with _complaints() as complaints, tifffile.TiffFile(path) as tif:
                offsets = _plane_offsets(tif)
        except Exception as error:  # whatever a damaged file makes tifffile do
            return f"no readable TIFF ({type(error).__name__}: {error})"
        if complaints:
            return f"its directory is cut or altered ({complaints[0]})"
        expected = DATA_OFFSET + np.arange(len(offsets)) * image.frame_bytes
        if not np.array_equal(offsets, expected):
            return "its directory is altered: a plane is not where it was written"
        return ""

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of one frame, found the way any reader of TIFF finds them."""
        with tifffile.TiffFile(path) as tif:
            return np.asarray(tif.pages[ours["ifd"]].asarray())


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
