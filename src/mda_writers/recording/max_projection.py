"""Maximum projections made while frames come."""

from __future__ import annotations

import mmap
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import WriteError
from mda_writers.formats.tiff.finish import put
from mda_writers.formats.tiff.layout import DATA_OFFSET, TiffLayout, lay_out
from mda_writers.formats.tiff.ome_xml import pixel_type, xml_alone
from mda_writers.model.names import safe_name, split_suffix
from mda_writers.storage.block_file import BLOCK, BlockFile, sync_folder
from mda_writers.storage.disk_space import explained
from mda_writers.storage.files import replace_bytes
from mda_writers.storage.workers import Background

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.locate import Locator
    from mda_writers.model.options import MaxProjection


HELD_BYTES = 256 << 20
"""Projections that are held in memory. Where z is the slowest axis every projection of the run is
open until its end; beyond this the one that waited longest is put into its file meanwhile."""

SUFFIX = ".ome.tiff"


@dataclass(slots=True)
class _Open:
    """A projection that grows."""

    image: ImageLayout
    channel: int | None
    pixels: np.ndarray


class ProjectionWriter:
    """Takes the maximum along some axes; an image's file is written when its last frame came."""

    def __init__(
        self, folder: Path, options: MaxProjection, locator: Locator, files: ImageFiles
    ) -> None:
        self.folder = folder
        self._options = options
        self._locator = locator
        self._files = files
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._saving: dict[str, _Open] = {}
        self._came = Counter[str]()
        self._background = Background(f"mda-writers {folder.name}")
        self._names: dict[str, None] = {}
        self._spare: list[np.ndarray] = []
        self._lock = threading.Lock()
        self.so_far = Projections(self)
        # reserves the name: the writer of another format may record beside us
        folder.mkdir()

    def open(self) -> None:
        """See that the files can hold such frames, before the first one."""
        for image in self._locator.images:
            if image.dtype:
                self._files.check(image)

    def add(
        self, image: ImageLayout, place: tuple[int, ...], pixels: np.ndarray, kept: bool
    ) -> None:
        """Take in one frame; put the projection away when all of its frames came."""
        index = dict(zip(image.sizes, place, strict=True))
        name = projection_name(image.index, index, self._options.axes)
        if kept or self._options.unsaved:
            self._take(name, image, index, pixels, kept)
        if self._is_last(name, image) and name in self._open:
            self._put_away(name)
        while self._held() > HELD_BYTES:
            self._put_away(next(iter(self._open)))

    def flush(self) -> bool:
        """Return whether every projection that is due is in its file."""
        return self._background.is_idle

    def close(self) -> None:
        """Write every projection that is still open."""
        try:
            for name in list(self._open):
                self._put_away(name)
        finally:
            try:
                self._background.close()
            finally:
                self._spare.clear()
                self._close_folder()

    def remove(self) -> None:
        """Take back the folder of a recording that could not begin."""
        with suppress(OSError):
            self.folder.rmdir()

    def files(self) -> list[Path]:
        """Return the files written so far."""
        return sorted(self.folder.glob("P*")) if self.folder.exists() else []

    def path(self, name: str) -> Path:
        """Return the file of a projection."""
        return self.folder / f"{name}{SUFFIX}"

    # ------------------------------------------------------------ helpers

    def _close_folder(self) -> None:
        """Have the names in the folder survive a power cut; remove one that has none."""
        with suppress(OSError):  # there are files in it, as a rule
            self.folder.rmdir()
            return
        try:
            sync_folder(self.folder)
        except OSError as error:
            raise explained(error, self.folder) from error

    def _take(
        self,
        name: str,
        image: ImageLayout,
        index: Mapping[str, int],
        pixels: np.ndarray,
        kept: bool,
    ) -> None:
        projection = self._open.get(name) or self._again(name, image, index)
        fits = projection is not None and projection.pixels.shape == pixels.shape
        if projection is not None and not fits and not kept:
            return  # frames that are not kept may be of any size
        if projection is None or not fits:
            self._opened(name, image, index, pixels)
        else:
            with self._lock:
                np.maximum(projection.pixels, pixels, out=projection.pixels)
        self._open.move_to_end(name)

    def _again(self, name: str, image: ImageLayout, index: Mapping[str, int]) -> _Open | None:
        """Return the projection of that name if it was put away, else None."""
        if name not in self._names:
            return None
        self._background.wait()
        return self._opened(name, image, index, self._files.load(self.path(name)))

    def _opened(
        self, name: str, image: ImageLayout, index: Mapping[str, int], content: np.ndarray
    ) -> _Open:
        """Return a projection that is `content` so far."""
        pixels = self._buffer(content)
        np.copyto(pixels, content)
        channel = None if "c" in self._options.axes else index.get("c", 0)
        image = replace(image, frame_shape=pixels.shape, dtype=pixels.dtype.name)
        projection = _Open(image, channel, pixels)
        with self._lock:
            self._open[name] = projection
            self._names[name] = None
        return projection

    def _is_last(self, name: str, image: ImageLayout) -> bool:
        """Count a frame, kept or not, and return whether the plan has no more for a projection."""
        if image.growing or image.frames_planned != image.planes:
            return False
        self._came[name] += 1
        if self._came[name] < prod(image.sizes.get(axis, 1) for axis in self._options.axes):
            return False
        del self._came[name]
        return True

    def _put_away(self, name: str) -> None:
        """Have a projection written, while the next frames are taken in."""
        with self._lock:
            projection = self._saving[name] = self._open.pop(name)
        self._background.put(lambda: self._save(name, projection))

    def _save(self, name: str, projection: _Open) -> None:
        path = self.path(name)
        try:
            self._files.save(path, projection.image, projection.channel, projection.pixels)
        except OSError as error:
            raise explained(error, path, projection.pixels.nbytes) from error
        with self._lock:
            del self._saving[name]
            self._spare = [*self._spare[-1:], projection.pixels]

    def _buffer(self, like: np.ndarray) -> np.ndarray:
        """Return memory for a projection: that of the last one, whose pages are there already."""
        with self._lock:
            spare = self._spare.pop() if self._spare else None
        if spare is not None and (spare.shape, spare.dtype) == (like.shape, like.dtype):
            return spare
        # mapped memory begins at a page: the file can be written round the page cache
        memory = mmap.mmap(-1, like.nbytes)
        return np.frombuffer(memory, like.dtype).reshape(like.shape)

    def _held(self) -> int:
        return sum(projection.pixels.nbytes for projection in self._open.values())


class Projections(Mapping[str, np.ndarray]):
    """Every projection of a recording by its name, also while it grows; each access is a copy."""

    def __init__(self, sink: ProjectionWriter) -> None:
        self._sink = sink

    def __getitem__(self, name: str) -> np.ndarray:
        sink = self._sink
        with sink._lock:
            growing = sink._open.get(name) or sink._saving.get(name)
            if growing is not None:
                return growing.pixels.copy()
            if name not in sink._names:
                raise KeyError(f"{name}; there are {', '.join(sink._names) or 'none yet'}.")
        return sink._files.load(sink.path(name))

    def __iter__(self) -> Iterator[str]:
        with self._sink._lock:
            return iter(list(self._sink._names))

    def __len__(self) -> int:
        return len(self._sink._names)


def projection_name(image_index: Mapping[str, int], index: Mapping[str, int], axes: str) -> str:
    """Return the name of a projection: ``P0000_CH00_000000``.

    Position, channel and time point, without those that are projected, and the plane (``Z0003``)
    where z is not; every further axis that makes images (grid tile, camera) follows the position,
    as ``G0003``.
    """
    parts = [f"P{image_index.get('p', 0):04d}"]
    parts += [
        f"{safe_name(axis).upper()}{i:04d}"
        for axis, i in sorted(image_index.items())
        if axis != "p"
    ]
    if "c" not in axes:
        parts.append(f"CH{index.get('c', 0):02d}")
    if "t" not in axes:
        parts.append(f"{index.get('t', 0):06d}")
    if "z" not in axes and "z" in index:
        parts.append(f"Z{index['z']:04d}")
    return "_".join(parts)


def free_folder(path: Path) -> Path:
    """Return the folder for the projections of the recording at `path`, which does not exist."""
    stem = split_suffix(path.name)[0]
    names = (f"{stem}_projections{f'_{n}' if n else ''}" for n in count())
    return next(path.with_name(n) for n in names if not path.with_name(n).exists())


class ImageFiles:
    """Writes and reads files of one plane each.

    Parameters
    ----------
    layout : Layout
        The recording that the images come from.
    preview : bool
        Whether each file gets an 8-bit PNG beside it.
    """

    def __init__(self, layout: Layout, preview: bool = False) -> None:
        self._layout = replace(layout, z_step_um=None, time_interval_s=None)
        self._preview = preview
        # what is around the pixels is the same for all time points, and expensive to build
        self._around: dict[tuple[str, int | None, tuple[int, ...], str], TiffLayout] = {}

    def check(self, image: ImageLayout) -> None:
        """Raise FrameError if OME-TIFF cannot hold such pixels."""
        pixel_type(image.dtype)

    def save(self, path: Path, image: ImageLayout, channel: int | None, pixels: np.ndarray) -> None:
        """Write one plane of `image`, beside and renamed.

        Parameters
        ----------
        path : Path
            The file; one that exists is replaced.
        image : ImageLayout
            The image that the plane belongs to.
        channel : int or None
            Which of its channels; None for all of them in one.
        pixels : np.ndarray
            ``(y, x)`` or ``(y, x, 3)``.
        """
        around = self._layout_of(image, channel)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            _write(beside, around, pixels)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):  # what went wrong first is what is raised
                beside.unlink(missing_ok=True)
            raise
        if self._preview:
            _save_preview(path, pixels)

    def load(self, path: Path) -> np.ndarray:
        """Return the pixels of a file that `save` wrote."""
        import tifffile

        return tifffile.imread(path, is_ome=False, key=0)

    def _layout_of(self, image: ImageLayout, channel: int | None) -> TiffLayout:
        known = (image.key, channel, image.frame_shape, image.dtype)
        if known not in self._around:
            plane = replace(
                image,
                sizes={},
                z_step_um=None,
                time_interval_s=None,
                channels=() if channel is None else image.channels[channel : channel + 1],
            )
            layout = replace(self._layout, images=(plane,))
            self._around[known] = lay_out(
                1,
                image.frame_shape,
                image.dtype,
                xml=xml_alone(layout),
                axes={},
                pixel_size_um=layout.pixel_size_um,
            )
        return self._around[known]


def _write(path: Path, around: TiffLayout, pixels: np.ndarray) -> None:
    """Fill a file, round the page cache where the memory of `pixels` allows it."""
    aligned = pixels.ctypes.data % BLOCK == 0 and pixels.nbytes >= BLOCK
    file = BlockFile(path, direct=None if aligned else False)
    try:
        file.write_at(DATA_OFFSET, pixels.reshape(-1).view(np.uint8).data)
        put(file, around)
        file.sync()
    finally:
        file.close()


def _save_preview(path: Path, pixels: np.ndarray) -> None:
    import cv2

    low, high = np.nanmin(pixels), np.nanmax(pixels)
    scale = 255.0 / max(float(high) - float(low), 1e-12)
    shades = np.nan_to_num((pixels.astype(np.float32) - np.float32(low)) * np.float32(scale))
    shades = np.clip(shades, 0, 255).astype(np.uint8)
    ok, png = cv2.imencode(".png", shades[..., ::-1] if shades.ndim == 3 else shades)
    if not ok:
        raise WriteError(f"{path}: OpenCV could not make its PNG preview.")
    replace_bytes(path.with_name(f"{path.name.removesuffix('.ome.tiff')}.png"), png.tobytes())
