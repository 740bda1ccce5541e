"""The pixels of our recordings in an object store; their book lies in a folder on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.zarr_read import is_blank, read_box
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr_frames import open_level, plane_places, read_frame
from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.runs import Slots


class ObjectPlanes:
    """Reads planes by their place.

    Parameters
    ----------
    url : str
        The recording's address.
    storage_options : mapping
        As for the writer; credentials are not written down with a recording.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any]) -> None:
        self._url, self._options = url, dict(storage_options)
        self._root = ObjectPath.of_url(url, self._options)
        self._levels: dict[str, list[Any]] = {}

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return the numbers as they are."""
        return numbers

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their place."""
        array = self._arrays(image)[level]
        places = [
            tuple(map(int, np.unravel_index(s, tuple(image.sizes.values())))) if image.sizes else ()
            for s in slots
        ]
        if not places:
            return np.zeros((0, *self.level_shapes(image)[level]), image.dtype)
        try:
            frames = self._frames(array, image, np.asarray(slots), places)
        except Exception as error:  # whatever a store may answer
            raise self._corrupt(image, f"{type(error).__name__}: {error}") from error
        self._check_blank(array, image, frames, places)
        return frames

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every level."""
        shapes = [array.shape[-2:] for array in self._arrays(image)]
        return [(*shape, *image.frame_shape[2:]) for shape in shapes]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every level."""
        arrays = self._arrays(image)
        return [a.shape[-3] if "z" in image.sizes else 1 for a in arrays]

    def close(self) -> None:
        """Forget the arrays."""
        self._levels.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectPlanes, (self._url, self._options)

    # ------------------------------------------------------------ helpers

    def _group(self, image: ImageLayout) -> ObjectPath:
        """Return where an image lies; its file begins with the recording's own name."""
        inner = image.file.partition("/")[2]
        return self._root / inner if inner else self._root

    def _arrays(self, image: ImageLayout) -> list[Any]:
        """Return the arrays of all levels, opened anew when they have grown since."""
        known = self._levels.get(image.key)
        if known is None or not _holds(known[0], image):
            self._levels[image.key] = known = self._opened(image)
        return known

    def _opened(self, image: ImageLayout) -> list[Any]:
        group, arrays = self._group(image), list[Any]()
        try:
            arrays.append(open_level(group, 0))
            while any((group / str(len(arrays)) / n).exists() for n in ("zarr.json", ".zarray")):
                arrays.append(open_level(group, len(arrays)))
        except Exception as error:
            raise self._corrupt(image, f"{type(error).__name__}: {error}") from error
        if not _holds(arrays[0], image):
            raise self._corrupt(image, f"its shape is {arrays[0].shape} {arrays[0].dtype}")
        return arrays

    def _frames(
        self, array: Any, image: ImageLayout, slots: np.ndarray, places: list[tuple[int, ...]]
    ) -> np.ndarray:
        if len(image.frame_shape) == 2:
            axes = [axis for axis in ("t", "c", "z") if axis in image.sizes]
            return read_box(array, axes, image.sizes, slots)
        return np.stack([read_frame(array, image, place) for place in places])

    def _check_blank(
        self, array: Any, image: ImageLayout, frames: np.ndarray, places: list[tuple[int, ...]]
    ) -> None:
        """Look whether frames of nothing but zeros are real: Zarr reads lost objects as zeros."""
        for frame, place in zip(frames, places, strict=True):
            for plane in plane_places(image, place) if is_blank(frame) else ():
                chunk = tuple(i // n for i, n in zip((*plane, 0, 0), array.chunks, strict=True))
                name = f"{array.path}/{array.metadata.encode_chunk_key(chunk)}"
                if not ObjectPath(self._root.store, name).exists():
                    raise self._corrupt(image, f"the object {name} is missing")

    def _corrupt(self, image: ImageLayout, what: str) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self._url}: image {image.name} cannot be read ({what}). If the store asks for "
            "credentials, pass them as storage_options, as to the writer; copy the objects again "
            "if this is a copy."
        )


def _holds(array: Any, image: ImageLayout) -> bool:
    planes = plane_places(image, tuple(n - 1 for n in image.sizes.values()))
    fits = all(i < n for p in planes for i, n in zip(p, array.shape[:-2], strict=True))
    same = tuple(array.shape[-2:]) == tuple(image.frame_shape[:2])
    return fits and same and array.dtype == np.dtype(image.dtype)
