"""The images of an OME-Zarr: one array for each resolution level."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import FrameError
from mda_writers.formats.base import FrameArray
from mda_writers.formats.zarr.arrays import (
    LaidOutArray,
    UnshardedArray,
    ZarrArray,
    close_all,
)
from mda_writers.formats.zarr.grid import grid_of, plane_sizes
from mda_writers.formats.zarr.ngff import ZARR_FORMAT, image_attributes
from mda_writers.formats.zarr.pyramid import halve, z_steps
from mda_writers.formats.zarr.shards import MOST_CHUNKS
from mda_writers.formats.zarr.store import write_group
from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mda_writers.formats.base import Place
    from mda_writers.formats.zarr.options import ZarrOptions
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.storage.write_pool import LevelsPool


class ZarrImage(FrameArray):
    """One image of the recording `layout`, being written into the group `folder`."""

    planes = 1

    def __init__(
        self,
        folder: Path | ObjectPath,
        image: ImageLayout,
        layout: Layout,
        pool: LevelsPool,
        options: ZarrOptions,
    ) -> None:
        self.folder = folder
        self.image = image
        self.planes = max(1, image.planes)
        self._layout = layout
        self._pool = pool
        self._options = options
        self._sizes = tuple(image.sizes.values())
        self._channels_described = image.sizes.get("c", 1)
        _check_pixels(image)
        for file in self._describe(image, safely=False):
            pool.note(file)
        self._levels = self._make_levels()
        # levels that are smaller in z, too, are made at the end, from those that are stored then
        in_z = options.z_factor > 1 and "z" in image.sizes
        self._while_acquiring = self._levels[:1] if in_z else self._levels
        self._unreserved = in_z and self._needs_room()

    # ------------------------------------------------------------ frames in

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        if self.image.growing:
            self._grow(index)
        first = self._levels[0]
        here = int(self._options.compression is None)
        if here:
            for place, plane in self._planes(index, frame):
                first.put(place, first.chunks_of(plane))
        if len(self._while_acquiring) > here:
            self._pool.later(partial(self._compute, index, frame, here), self._put_all)
        if self._unreserved:
            self._pool.owe(self._smaller_bytes(frame))
        self._pool.mark()

    def flush(self) -> None:
        """Return when every frame so far is in its file."""
        self._pool.drain()

    def close(self) -> None:
        """Return when every frame so far is on the disk, and let go of the files."""
        try:
            self.flush()
        finally:
            close_all(self._levels)

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return where the frame of `index` lies: its array, and the planes in it."""
        places = plane_places(self.image, index)
        return {"file": self.image.file, "array": "0", "planes": places}

    def publish(self) -> Path | None:
        """Describe the channels that have come since the image was described last."""
        sizes = dict(zip(self.image.sizes, self._sizes, strict=True))
        files = self._describe(replace(self.image, sizes=sizes), safely=self._pool.durable)
        return files[0] if files else None

    # ------------------------------------------------------------ helpers

    def _sizes_now(self) -> tuple[int, ...]:
        return self._sizes

    def _read(self, pixels: np.ndarray, wanted: list[tuple[Place, Place]]) -> None:
        array = open_level(self.folder)
        for target, place in wanted:
            pixels[target] = read_frame(array, self.image, place)

    def _make_levels(self) -> list[ZarrArray]:
        levels: list[ZarrArray] = []
        try:
            for planes, height, width in self._options.level_shapes(self.image):
                levels.append(
                    self._make_level(len(levels), self._at_depth(planes), (height, width))
                )
        except BaseException:
            with suppress(OSError):
                close_all(levels)
            raise
        return levels

    def _at_depth(self, planes: int) -> ImageLayout:
        if "z" not in self.image.sizes:
            return self.image
        return replace(self.image, sizes={**self.image.sizes, "z": planes})

    def _make_level(self, number: int, image: ImageLayout, yx: tuple[int, int]) -> ZarrArray:
        options = self._options
        version = ZARR_FORMAT[options.version]
        kind = self._kind_of(number)
        grid = grid_of(
            image,
            yx,
            options.chunks,
            options.shards,
            sharded=version == 3,
            most_chunks=0 if issubclass(kind, LaidOutArray) else MOST_CHUNKS,
        )
        level = kind(
            self.folder / str(number),
            grid,
            plane_sizes(image, grid),
            version,
            options.compression,
            self._pool,
        )
        try:
            if isinstance(level, LaidOutArray):
                level.lay_out(claim=not self._is_sparse())
        except BaseException:
            with suppress(OSError):
                level.close()
            raise
        return level

    def _kind_of(self, number: int) -> type[ZarrArray]:
        """Return the kind of array that level `number` is, by what is known of it beforehand."""
        if ZARR_FORMAT[self._options.version] == 2:
            return UnshardedArray
        if self._options.compression is not None or self.image.growing:
            return ZarrArray
        return LaidOutArray

    def _needs_room(self) -> bool:
        """Whether planes of smaller levels will need room that nobody has reserved."""
        return self._is_sparse() or not isinstance(self._levels[-1], LaidOutArray)

    def _smaller_bytes(self, frame: np.ndarray) -> int:
        """Return the bytes of a frame's share in the smaller levels."""
        sizes = dict(zip(self.image.sizes, self._sizes, strict=True))
        shapes = self._options.level_shapes(replace(self.image, sizes=sizes))
        pixels = [prod(shape) for shape in shapes]
        return -(-frame.nbytes * sum(pixels[1:]) // pixels[0])

    def _is_sparse(self) -> bool:
        """Whether the plan leaves out so much of the box that claiming it all would be a waste."""
        planned = self.image.frames_planned
        return self._layout.selective or (planned is not None and planned < 0.9 * self.planes)

    def _planes(
        self, index: tuple[int, ...], frame: np.ndarray
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Return the planes of a frame, each with its place."""
        places = plane_places(self.image, index)
        if frame.ndim == 2:
            yield places[0], frame
            return
        for sample, place in enumerate(places):
            yield place, frame[..., sample]

    def _compute(
        self, index: tuple[int, ...], frame: np.ndarray, first: int
    ) -> list[tuple[ZarrArray, tuple[int, ...], list[np.ndarray]]]:
        """Return the chunks of all levels from `first` on that a frame completes; on any thread."""
        made = []
        for place, plane in self._planes(index, frame):
            for level, at, pixels in self._reduced(place, plane):
                if level is not self._levels[0] or first == 0:
                    made.append((level, at, level.chunks_of(pixels)))
        return made

    def _reduced(
        self, place: tuple[int, ...], plane: np.ndarray
    ) -> Iterator[tuple[ZarrArray, tuple[int, ...], np.ndarray]]:
        """Return a plane in every level that is made while frames come."""
        for number, level in enumerate(self._while_acquiring):
            if number:
                plane = halve(plane)
            yield level, place, plane

    def _put_all(self, made: list[tuple[ZarrArray, tuple[int, ...], list[np.ndarray]]]) -> None:
        for level, place, chunks in made:
            level.put(place, chunks)

    def _grow(self, index: tuple[int, ...]) -> None:
        self._sizes = tuple(max(n, i + 1) for n, i in zip(self._sizes, index, strict=True))
        channels = dict(zip(self.image.sizes, self._sizes, strict=True)).get("c", 1)
        if channels > self._channels_described:
            self._channels_described = channels
            self._pool.when_landed(lambda: self)

    def _describe(self, image: ImageLayout, safely: bool) -> list[Path]:
        version = self._options.version
        # of an image that grows nobody knows when one plane will be left
        unknown = image.growing and "z" in image.sizes
        planes = None if unknown else image.sizes.get("z", 1)
        steps = z_steps(planes, self._options.z_factor, len(self._options.level_shapes(image)))
        attributes = image_attributes(self._layout, image, steps, version, {})
        return write_group(self.folder, attributes, ZARR_FORMAT[version], safely=safely)


def _check_pixels(image: ImageLayout) -> None:
    if np.dtype(image.dtype).kind not in "biufc":
        raise FrameError(
            f"{image.name}: OME-Zarr cannot hold pixels of type {image.dtype}; it holds booleans, "
            "integers, floats and complex numbers. Convert the frames first."
        )


def plane_places(image: ImageLayout, index: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return where the planes of the frame at `index` lie in the image's arrays."""
    named = dict(zip(image.sizes, index, strict=True))
    if len(image.frame_shape) == 2:
        return [tuple(named[axis] for axis in ("t", "c", "z") if axis in named)]
    samples = image.frame_shape[2]
    first = named.get("c", 0) * samples
    each = [{**named, "c": c} for c in range(first, first + samples)]
    return [tuple(n[axis] for axis in ("t", "c", "z") if axis in n) for n in each]


def open_level(folder: Path | ObjectPath, level: int | str = 0) -> Any:
    """Return one level of an image, as zarr-python opens it."""
    import zarr

    if isinstance(folder, ObjectPath):
        return zarr.open_array(folder.store, path=(folder / str(level)).path, mode="r")
    described = [folder / str(level) / name for name in ("zarr.json", ".zarray")]
    written = max((file.stat().st_mtime_ns for file in described if file.exists()), default=0)
    return _opened(folder / str(level), written)


@lru_cache(maxsize=16)
def _opened(folder: Path, written_ns: int) -> Any:
    """Return an array; opened once for all of its frames, and again when it was described anew."""
    import zarr

    return zarr.open_array(folder, mode="r")


def read_frame(array: Any, image: ImageLayout, index: tuple[int, ...]) -> np.ndarray:
    """Return the frame at `index` from the image's level 0."""
    planes = [np.asarray(array[place]) for place in plane_places(image, index)]
    return planes[0] if len(image.frame_shape) == 2 else np.stack(planes, axis=-1)
