"""One z-stack in a TIFF file of its own: laid out at its first frame, complete at its last."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import tifffile

from mda_writers.errors import FrameError, WriteError
from mda_writers.formats.ome_xml import xml_alone
from mda_writers.formats.tiff_ending import put
from mda_writers.formats.tiff_layout import DATA_OFFSET, TiffLayout, lay_out, lay_out_imagej
from mda_writers.storage.block_file import BlockFile
from mda_writers.storage.space import human_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.storage.write_pool import WritePool

MOST_32_BIT = (1 << 32) - (64 << 20)
"""Bytes of pixels up to which a file has 32-bit offsets: what is around them needs room, too."""


@dataclass(frozen=True, slots=True)
class StackKind:
    """What the files of a series are like.

    Attributes
    ----------
    ome : bool
        Whether they are OME-TIFF; if not, they are hyperstacks for ImageJ.
    bigtiff : bool or None
        Whether offsets have 64 bits; None for as the size of a file needs it. ImageJ's own reader
        does not know BigTIFF: such a file describes its shape in tifffile's way instead.
    """

    ome: bool = False
    bigtiff: bool | None = None

    @property
    def suffix(self) -> str:
        """The files' suffix."""
        return ".ome.tif" if self.ome else ".tif"

    def lay_out(self, layout: Layout, image: ImageLayout, channel: int, planes: int) -> TiffLayout:
        """Lay out the file of one stack of an image.

        Raises
        ------
        FrameError
            If the file cannot hold such frames, or so many.
        """
        pixels = planes * image.frame_bytes
        big = pixels > MOST_32_BIT if self.bigtiff is None else self.bigtiff
        if pixels > MOST_32_BIT and not big:
            raise FrameError(
                f"A stack of {planes} planes takes {human_bytes(pixels)}, and a 32-bit TIFF holds "
                f"{human_bytes(MOST_32_BIT)}. Leave out bigtiff=False, or take fewer planes."
            )
        if not (self.ome or big):
            return _imagej(layout, image, planes)
        plane = replace(
            image,
            sizes={"z": planes},
            channels=image.channels[channel : channel + 1],
            growing=False,
        )
        layout = replace(layout, images=(plane,))
        return lay_out(
            planes,
            image.frame_shape,
            image.dtype,
            xml=xml_alone(layout) if self.ome else None,
            axes={"z": planes},
            pixel_size_um=layout.pixel_size_um,
            bigtiff=big,
        )


def _imagej(layout: Layout, image: ImageLayout, planes: int) -> TiffLayout:
    try:
        return lay_out_imagej(
            planes,
            image.frame_shape,
            image.dtype,
            pixel_size_um=layout.pixel_size_um,
            z_step_um=layout.z_step_of(image),
        )
    except ValueError as error:
        raise FrameError(
            f"ImageJ has no pixels of type {image.dtype} in frames of {image.frame_shape} "
            f"({error}). Pass ome=True for OME-TIFF files."
        ) from error


class StackFile:
    """The file of one stack.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    frame_bytes : int
        Bytes of a plane.
    around : TiffLayout
        All but the pixels.
    planes : int
        Planes that it is laid out for.
    durable : bool
        Whether a power cut must not leave its name without its content.
    """

    def __init__(
        self, path: Path, frame_bytes: int, around: TiffLayout, planes: int, durable: bool
    ) -> None:
        if path.exists():
            raise WriteError(
                f"{path}: exists, and is not touched again. Frames of one stack that come after "
                "it was completed need an index of their own."
            )
        self.path = path
        self.taken: set[int] = set()
        self.planes = 0
        self._tail_bytes = 0
        self._frame_bytes = frame_bytes
        self._file = BlockFile(path)
        self._make(around, planes, durable)

    def lay_out(self, around: TiffLayout, planes: int) -> None:
        """Lay the file out, or out anew for more planes."""
        begin = DATA_OFFSET + self.planes * self._frame_bytes
        self._file.claim(begin, around.tail_offset + len(around.tail) - begin)
        put(self._file, around)
        # where the old directories were are planes now, and those that never come are zero
        self._file.patch(begin, bytes(self._tail_bytes))
        self._tail_bytes = len(around.tail)
        self.planes = planes

    def _make(self, around: TiffLayout, planes: int, durable: bool) -> None:
        """Make the file beside, so that one of its name is a whole TIFF at every moment."""
        file, self._file = self._file, BlockFile(beside(self.path), direct=False)
        try:
            self.lay_out(around, planes)
            if durable:
                self._file.sync()
            self._file.close()
            self._file.path.rename(self.path)
        except BaseException:
            self._file.close()
            with suppress(OSError):  # what went wrong first is what is raised
                self._file.path.unlink(missing_ok=True)
            raise
        self._file = file

    def next_size(self, z: int) -> int:
        """Return how many planes to lay out for so that `z` is among them.

        The new directories must not lie on the old ones: the file is whole at every moment.
        """
        clear = self.planes + -(-self._tail_bytes // self._frame_bytes)
        return max(z + 1, 2 * self.planes, clear)

    def write(self, pool: WritePool, z: int, frame: np.ndarray) -> None:
        """Give one plane to the pool."""
        pool.write(self._file, DATA_OFFSET + z * self._frame_bytes, frame)
        self.taken.add(z)

    def complete(self, pool: WritePool) -> None:
        """Make what has landed safe, and let go of the file."""
        try:
            self._file.sync()
        finally:
            self.close(pool)

    def close(self, pool: WritePool) -> None:
        """Let go of the file."""
        self._file.close()
        pool.forget(self._file)


def beside(path: Path) -> Path:
    """Return the name under which a file is made that then becomes `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def planes_in(path: Path) -> int:
    """Return how many planes a file is laid out for."""
    with tifffile.TiffFile(path) as tif:
        return len(tif.pages)


def cut(path: Path, around: TiffLayout, old_planes: int, frame_bytes: int) -> None:
    """Leave out the last planes of a file; killed at any moment, it is a whole TIFF.

    Parameters
    ----------
    path : Path
        The file.
    around : TiffLayout
        For the planes that stay.
    old_planes : int
        Planes that it was laid out for.
    frame_bytes : int
        Bytes of a plane.
    """
    end = around.tail_offset + len(around.tail)
    if end > DATA_OFFSET + old_planes * frame_bytes:
        # the new directories would lie on the old ones; this happens to small files only
        _cut_beside(path, around)
        return
    file = BlockFile(path, direct=False)
    try:
        put(file, around, synced=True)
        file.truncate(end)
        file.sync()
    finally:
        file.close()


def _cut_beside(path: Path, around: TiffLayout) -> None:
    made = beside(path)
    try:
        with path.open("rb") as old, made.open("wb") as new:
            new.write(old.read(around.tail_offset))
            new.write(around.tail)
            new.seek(0)
            new.write(around.head)
            new.flush()
            os.fsync(new.fileno())
        made.replace(path)
    except BaseException:
        with suppress(OSError):  # the same
            made.unlink(missing_ok=True)
        raise
