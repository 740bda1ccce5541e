"""A series of TIFF stacks: a file for each channel and time point."""

from __future__ import annotations

import logging
import os
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from mda_writers.errors import CorruptRecordingError, FrameError, WriteError
from mda_writers.formats.base import Format, FrameArray
from mda_writers.formats.tiff.bigtiff import damage_of
from mda_writers.formats.tiff.finish import cut_behind, put
from mda_writers.formats.tiff.layout import (
    DATA_OFFSET,
    PlanePlaces,
    TiffLayout,
    lay_out,
    lay_out_imagej,
)
from mda_writers.formats.tiff.ome_xml import xml_alone
from mda_writers.model.names import file_name, is_plain
from mda_writers.storage.block_file import BlockFile, sync_file, sync_folder
from mda_writers.storage.disk_space import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.base import Place
    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout, Layout, PlaneInfo
    from mda_writers.storage.write_pool import WritePool


_logger = logging.getLogger("mda_writers")

Stack = tuple[int, int]
"""Channel and time point of a stack."""

MOST_32_BIT = (1 << 32) - (64 << 20)
"""Bytes of pixels up to which a file has 32-bit offsets: what is around them needs room, too."""


class TiffSeriesFormat(Format):
    """The files of one recording as a series.

    Parameters
    ----------
    template : str
        The files' names, see ``model/file_names.py``.
    kind : StackKind
        What a file is like.
    first_t : int
        The number of the first time point in the names.
    on_file : callable, optional
        Called with the path of each file that is complete.
    """

    name = "tiff-series"
    claims_room = False

    def __init__(
        self,
        template: str,
        kind: StackKind,
        first_t: int = 0,
        on_file: Callable[[Path], object] | None = None,
    ) -> None:
        self._template = template
        self._kind = kind
        self._first_t = first_t
        self._on_file = on_file
        self._around: dict[tuple[Any, ...], TiffLayout] = {}
        self.complete: dict[Path, None] = {}

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> TiffSeriesFormat:
        """Return the format of the recording whose journal has this header."""
        series = header["series"]
        kind = StackKind(series["ome"], series["bigtiff"])
        return cls(series["template"], kind, series["first_t"])

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: WritePool
    ) -> TiffSeriesArray:
        """Return the array of one image; its files are made as its stacks begin."""
        return TiffSeriesArray(path, image, layout, pool, self)

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> None:
        """Cut the stacks that were not completed behind their last plane.

        Complete files are not touched; they may be elsewhere by now.
        """
        for image in layout.images:
            last: defaultdict[Stack, int] = defaultdict(int)
            for plane in planes[image.key]:
                stack, z = split(image, plane.place)
                last[stack] = max(last[stack], z + 1)
            for (c, t), count in last.items():
                path = self.path_of(folder / image.file, image, c, t)
                with self.unfinished(f"{image.file}/{path.name}"):
                    self._finish_stack(folder / image.file, image, layout, (c, t), count)
            for above in (image.file, *map(str, PurePosixPath(image.file).parents)):
                if (folder / above).is_dir():
                    sync_folder(folder / above)

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """Return the image's stacks."""
        for name, end in ends.items():
            if name.rpartition("/")[0] == image.file:
                yield name, (DATA_OFFSET, end)

    def discard(self, path: Path) -> None:
        """Remove the folder of an image without frames, if there is one."""
        with suppress(OSError):
            path.rmdir()

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps a reader from the files of an image; nothing if all is well."""
        for file in sorted(path.glob(f"*{self._kind.suffix}")):
            if damage := damage_of(file, PlanePlaces(image.frame_shape, image.dtype)):
                return f"{file.name}: {damage}"
        return ""

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of one frame, found the way any reader of TIFF finds them."""
        stack, z = split(image, tuple(ours["place"]))
        with tifffile.TiffFile(self.path_of(path, image, *stack)) as tif:
            return np.asarray(tif.pages[z].asarray())

    def path_of(self, folder: Path, image: ImageLayout, c: int, t: int) -> Path:
        """Return the file of a stack.

        Raises
        ------
        CorruptRecordingError
            If the template, which may have been read, leads out of the folder.
        """
        name = file_name(self._template, image, c, self._first_t + t)
        if not is_plain(name):
            raise CorruptRecordingError(f"{folder}: altered. No file is called {name!r}.")
        return folder / f"{name}{self._kind.suffix}"

    def around(self, layout: Layout, image: ImageLayout, c: int, planes: int) -> TiffLayout:
        """Return what is around the pixels: the same for all time points, so made once."""
        known = (image.key, image.frame_shape, image.dtype, image.channels[c : c + 1], c, planes)
        if known not in self._around:
            self._around[known] = self._kind.lay_out(layout, image, c, planes)
        return self._around[known]

    def announce(self, path: Path) -> None:
        """Say that a file is complete."""
        self.complete[path] = None
        if self._on_file is None:
            return
        try:
            self._on_file(path)
        except Exception:
            # what becomes of a finished file must not end the acquisition of the others
            _logger.exception("on_file failed for %s; the file is complete.", path)

    def _finish_stack(
        self, folder: Path, image: ImageLayout, layout: Layout, stack: Stack, planes: int
    ) -> None:
        path = self.path_of(folder, image, *stack)
        if path in self.complete or not path.exists():
            return
        laid_out = planes_in(path)
        around = self.around(layout, image, stack[0], planes)
        if laid_out > planes:
            cut(path, around, laid_out, image.frame_bytes)
        else:
            cut_behind(path, around)
        sync_file(path)
        self.announce(path)


class TiffSeriesArray(FrameArray):
    """One image as a series of files; ``array[index] = frame``.

    Parameters
    ----------
    folder : Path
        Where the files go; made with the first one.
    image : ImageLayout
        What they will hold.
    layout : Layout
        The recording that the image is part of.
    pool : WritePool
        Takes the pixels to the disk.
    fmt : TiffSeriesFormat
        Names the files, lays them out, and is told which are complete.
    """

    def __init__(
        self,
        folder: Path,
        image: ImageLayout,
        layout: Layout,
        pool: WritePool,
        fmt: TiffSeriesFormat,
    ) -> None:
        self._folder = folder
        self.image = image
        self._layout = layout
        self._pool = pool
        self._format = fmt
        self._open: dict[Stack, StackFile] = {}
        self._begun: set[Stack] = set()
        self._is_alone = False
        self._landing: deque[tuple[int, StackFile]] = deque()
        self._sizes = dict(image.sizes)
        # what the files cannot hold is told before the first exposure
        fmt.around(layout, image, 0, self._planes_at_first())

    # ------------------------------------------------------------ frames in

    def expect(self, frame: Frame) -> None:
        """Look at the frame that comes next: without an index along z it is a stack of its own."""
        self._is_alone = self.image.growing and "z" not in frame.index

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        for axis, i in zip(self._sizes, index, strict=True):
            self._sizes[axis] = max(self._sizes[axis], i + 1)
        key, z = split(self.image, index)
        stack = self._open.get(key) or self._begin(key)
        if z >= stack.planes:
            planes = stack.next_size(z)
            stack.lay_out(self._around(key[0], planes), planes)
        stack.write(self._pool, z, frame)
        is_whole = len(stack.taken) == stack.planes and not self.image.growing
        if is_whole or self._is_alone:
            self._landing.append((self._pool.staged(), self._open.pop(key)))

    def take_landed(self, journalled: int) -> bool:
        """Announce the stacks whose last frame is on the disk and in the journal.

        True as long as there are stacks that wait for that. `journalled` is the pool's number up
        to which it holds: what `recover` finds in the journal of a killed run is then never less
        than a file that somebody was told of.
        """
        while self._landing and self._landing[0][0] <= journalled:
            stack = self._landing.popleft()[1]
            stack.complete(self._pool)
            self._format.announce(stack.path)
        return bool(self._landing)

    def flush(self) -> None:
        """Return when every frame so far is in its file."""
        self._pool.drain()

    def close(self) -> None:
        """Return when every frame so far is on the disk, and let go of the files."""
        try:
            self.flush()
        finally:
            for stack in [*self._open.values(), *(stack for _, stack in self._landing)]:
                stack.close(self._pool)

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return where the frame of `index` lies, the file relative to the recording's folder."""
        stack, z = split(self.image, index)
        name = self._format.path_of(self._folder, self.image, *stack).name
        offset = DATA_OFFSET + z * self.image.frame_bytes
        return {"file": f"{self.image.file}/{name}", "ifd": z, "offset_bytes": offset}

    # ------------------------------------------------------------ helpers

    def _planes_at_first(self) -> int:
        return max(1, self.image.sizes.get("z", 1))

    def _begin(self, key: Stack) -> StackFile:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._format.path_of(self._folder, self.image, *key)
        planes = self._planes_at_first()
        around = self._around(key[0], planes)
        stack = StackFile(path, self.image.frame_bytes, around, planes, self._pool.durable)
        self._open[key] = stack
        self._begun.add(key)
        return stack

    def _around(self, c: int, planes: int) -> TiffLayout:
        return self._format.around(self._layout, self.image, c, planes)

    def _sizes_now(self) -> tuple[int, ...]:
        return tuple(self._sizes.values())

    def _read(self, pixels: np.ndarray, wanted: list[tuple[Place, Place]]) -> None:
        for target, place in wanted:
            stack, z = split(self.image, place)
            if stack in self._begun:
                self._read_plane(pixels[target], stack, z)

    def _read_plane(self, pixels: np.ndarray, stack: Stack, z: int) -> None:
        path = self._format.path_of(self._folder, self.image, *stack)
        if not path.exists():
            raise FileNotFoundError(f"{path}: was moved away; read it where it is now.")
        offset = DATA_OFFSET + z * self.image.frame_bytes
        if path.stat().st_size >= offset + self.image.frame_bytes:
            pixels[...] = np.memmap(path, self.image.dtype, "r", offset, self.image.frame_shape)


def split(image: ImageLayout, place: tuple[int, ...]) -> tuple[Stack, int]:
    """Return the stack of a place, and its plane in it."""
    index = dict(zip(image.sizes, place, strict=True))
    return (index.get("c", 0), index.get("t", 0)), index.get("z", 0)


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
