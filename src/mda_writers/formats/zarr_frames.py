"""Frames out of an image's arrays, read by zarr-python: which planes they are, and their pixels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout


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
