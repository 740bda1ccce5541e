"""A file series: every z-stack of one channel and time point is a TIFF file of its own."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.bigtiff_format import damage_of
from mda_writers.formats.format import Format
from mda_writers.formats.image_array import ImageArray
from mda_writers.formats.stack_file import StackFile, StackKind, cut, planes_in
from mda_writers.formats.tiff_ending import cut_behind, final_sizes
from mda_writers.formats.tiff_layout import DATA_OFFSET, PlanePlaces, TiffLayout
from mda_writers.model.file_names import file_name
from mda_writers.model.names import is_plain
from mda_writers.storage.file_system import sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.image_array import Place
    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo
    from mda_writers.storage.write_pool import WritePool

_logger = logging.getLogger("mda_writers")

Stack = tuple[int, int]
"""Channel and time point of a stack."""


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
    final_sizes = staticmethod(final_sizes)

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
        """Return what is around the pixels: the same for all time points, and dear to make."""
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


class TiffSeriesArray(ImageArray):
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
