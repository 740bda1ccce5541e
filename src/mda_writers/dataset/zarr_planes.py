"""The pixels of our OME-Zarr recordings: out of their shards, or read by zarr-python."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.packed_shards import PackedShards
from mda_writers.dataset.shard_layout import layout_of
from mda_writers.dataset.shard_maps import Maps, ShardMaps
from mda_writers.dataset.zarr_read import corrupt, is_blank, read_box
from mda_writers.formats.zarr_final import levels_of
from mda_writers.formats.zarr_frames import open_level, plane_places, read_frame

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.runs import Slots


class ZarrPlanes:
    """Reads planes by their place.

    Parameters
    ----------
    folder : Path
        Where the recording is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[tuple[str, int], Any] = {}
        self._shards: dict[tuple[str, int], ShardMaps | PackedShards | None] = {}
        self._maps: Maps = OrderedDict()

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return the numbers as they are."""
        return numbers

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their place."""
        shape = tuple(image.sizes.values())
        places = [tuple(map(int, np.unravel_index(s, shape))) if shape else () for s in slots]
        if not places:
            return np.zeros((0, *self.level_shapes(image)[level]), image.dtype)
        array = self._array(image, level, places)
        found = self._out_of_shards(image, level, array, places)
        if found is not None:
            return found
        try:
            frames = _read_by_zarr(array, image, np.asarray(slots), places)
        except Exception as error:  # whatever a damaged shard makes of zarr-python
            raise corrupt(self._folder / image.file / str(level), str(error)) from error
        self._check_blank(image, level, array, frames, places)
        return frames

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every level."""
        folder = self._folder / image.file
        if not folder.is_dir():
            raise corrupt(folder, "it is missing")
        shapes = [self._array(image, int(n), []).shape[-2:] for n in levels_of(folder)]
        return [(*shape, *image.frame_shape[2:]) for shape in shapes]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every level."""
        if "z" not in image.sizes:
            return [1] * len(self.level_shapes(image))
        levels = range(1, len(self.level_shapes(image)))
        return [image.sizes["z"], *(self._array(image, n, []).shape[-3] for n in levels)]

    def close(self) -> None:
        """Forget the arrays; none of them keeps a file open."""
        self._arrays.clear()
        self._shards.clear()
        self._maps.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_arrays": {}, "_shards": {}, "_maps": OrderedDict()}

    def _array(self, image: ImageLayout, level: int, places: list[tuple[int, ...]]) -> Any:
        """Return a level's array; opened anew when it has grown since."""
        folder = self._folder / image.file
        array = self._arrays.get((image.file, level))
        if array is None or not _holds(array, image, places):
            try:
                array = open_level(folder, level)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise corrupt(folder / str(level), str(error)) from error
            if array.dtype != np.dtype(image.dtype) or (
                level == 0 and array.shape[-2:] != tuple(image.frame_shape[:2])
            ):
                raise corrupt(folder / str(level), f"frames of {array.shape[-2:]} {array.dtype}")
            self._arrays[image.file, level] = array
            self._shards.pop((image.file, level), None)
        if not _holds(array, image, places):
            raise corrupt(folder / str(level), f"its shape is {array.shape}")
        return array

    def _out_of_shards(
        self, image: ImageLayout, level: int, array: Any, places: list[tuple[int, ...]]
    ) -> np.ndarray | None:
        """Return frames out of shards; None where only zarr-python can read them."""
        if len(image.frame_shape) != 2:
            return None
        name = (image.file, level)
        if name not in self._shards:
            self._shards[name] = self._open_shards(image.file, level, array)
        shards = self._shards[name]
        if shards is None:
            return None
        return shards.read([plane_places(image, place)[0] for place in places])

    def _open_shards(self, file: str, level: int, array: Any) -> ShardMaps | PackedShards | None:
        layout, folder = layout_of(array), self._folder / file / str(level)
        if layout is None:
            return None
        if layout.mappable:
            return ShardMaps(folder, layout, self._maps)
        return PackedShards(folder, layout)

    def _check_blank(
        self,
        image: ImageLayout,
        level: int,
        array: Any,
        frames: np.ndarray,
        places: list[tuple[int, ...]],
    ) -> None:
        """Look whether frames of nothing but zeros are real: Zarr reads lost chunks as zeros.

        Raises
        ------
        CorruptRecordingError
            If the chunk's file is missing.
        """
        for frame, place in zip(frames, places, strict=True):
            if is_blank(frame):
                for plane in plane_places(image, place):
                    path = _chunk_path(self._folder / image.file / str(level), array, plane)
                    if not path.exists():
                        raise corrupt(path, "it is missing")


def _read_by_zarr(
    array: Any, image: ImageLayout, slots: np.ndarray, places: list[tuple[int, ...]]
) -> np.ndarray:
    if len(image.frame_shape) == 2:
        axes = [axis for axis in ("t", "c", "z") if axis in image.sizes]
        return read_box(array, axes, image.sizes, slots)
    return np.stack([read_frame(array, image, place) for place in places])


def _holds(array: Any, image: ImageLayout, places: list[tuple[int, ...]]) -> bool:
    planes = [plane for place in places for plane in plane_places(image, place)]
    return all(all(i < n for i, n in zip(p, array.shape[:-2], strict=True)) for p in planes)


def _chunk_path(folder: Path, array: Any, plane: tuple[int, ...]) -> Path:
    shape = array.shards or array.chunks
    index = [str(i // n) for i, n in zip((*plane, 0, 0), shape, strict=True)]
    return (
        folder.joinpath("c", *index) if array.metadata.zarr_format == 3 else folder.joinpath(*index)
    )
