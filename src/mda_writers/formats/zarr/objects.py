"""OME-Zarr in an object store: written and read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr.arrays import ZarrArray
from mda_writers.formats.zarr.format import OmeZarrFormat
from mda_writers.formats.zarr.grid import grid_of, plane_sizes
from mda_writers.formats.zarr.image import ZarrImage, open_level, plane_places, read_frame
from mda_writers.formats.zarr.ngff import ZARR_FORMAT
from mda_writers.formats.zarr.options import ZarrOptions
from mda_writers.formats.zarr.reader import is_blank, read_box
from mda_writers.formats.zarr.store import is_array, read_shape, write_shape
from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.zarr.pyramid import TakenPlanes
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.slots import Slots


# OME-Zarr in an object store: every chunk an object, put by several threads at once.
#
# There are no shards here: an object cannot be written in parts. A frame counts as written when
# all of its objects have been put, and the arrays' shapes follow then.


class ObjectArray(ZarrArray):
    """One level, every chunk an object."""

    def put_objects(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        """Put the chunks of a plane; on any thread."""
        first = ("c",) if self._version == 3 else ()
        for tile, chunk in zip(np.ndindex(self.grid.tiles), chunks, strict=True):
            target = self.folder.joinpath(*first, *map(str, (*place, *tile)))
            target.write_bytes(chunk.tobytes())

    def put(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        """Take in that the objects of a plane are there."""
        self._grow(place)


class ObjectImage(ZarrImage):
    """One image of a recording, being put into an object store."""

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        if self.image.growing:
            self._grow(index)
        self._pool.later(partial(self._compute, index, frame, 0), self._put_all)
        self._pool.mark()

    def _needs_room(self) -> bool:
        return False  # not on this machine's disk

    def _compute(self, index: tuple[int, ...], frame: np.ndarray, first: int) -> list[Any]:
        made = super()._compute(index, frame, first)
        for level, place, chunks in made:
            assert isinstance(level, ObjectArray)
            level.put_objects(place, chunks)
        return [(level, place, []) for level, place, _ in made]

    def _make_level(self, number: int, image: ImageLayout, yx: tuple[int, int]) -> ZarrArray:
        options = self._options
        grid = grid_of(image, yx, options.chunks, {}, sharded=False)
        return ObjectArray(
            self.folder / str(number),
            grid,
            plane_sizes(image, grid),
            ZARR_FORMAT[options.version],
            options.compression,
            self._pool,
        )


class OmeZarrObjects(OmeZarrFormat):
    """The objects of one recording.

    Parameters
    ----------
    options : ZarrOptions
        How images are stored.
    root : ObjectPath
        Where the recording lies in the store.
    """

    name = "ome-zarr-objects"
    image_class = ObjectImage

    def __init__(self, options: ZarrOptions, root: ObjectPath) -> None:
        super().__init__(options)
        self._root = root
        # none of the pixels need room on the local disk
        self.claims_room = True
        self.shrinks = True

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> OmeZarrObjects:
        """Return the format of the recording whose journal has this header.

        Credentials are never written down: they come from the environment, or from whoever adds
        ``storage_options`` to the header.
        """
        root = ObjectPath.of_url(header["url"], header.get("storage_options", {}))
        return cls(ZarrOptions.of_header(header), root)

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """Return nothing: seals are of files on this machine."""
        return iter(())

    def discard(self, path: Path) -> None:
        """Remove the objects of an image that no frame came for."""
        # by the suffix, not by the name: what lies beside may have been renamed
        below = next(n for n, part in enumerate(path.parts[::-1]) if part.endswith(".zarr"))
        inner = path.parts[len(path.parts) - below :]
        (self._root.joinpath(*inner) if inner else self._root).remove()

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps readers from the frames of an image; nothing if all is well."""
        try:
            open_level(self._group(image))
        except Exception as error:  # whatever a store may answer
            return f"no readable Zarr array ({type(error).__name__}: {error})"
        return ""

    def damaged_level(
        self, path: Path, image: ImageLayout, places: Sequence[tuple[int, ...]]
    ) -> str:
        """Return nothing: all objects would have to be fetched twice."""
        return ""

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of one frame, found the way any reader of Zarr finds them."""
        return read_frame(open_level(self._group(image)), image, tuple(ours["place"]))

    def _root_of(self, folder: Path) -> Any:
        return _Above(self._root)

    def _levels_of(self, group: Any) -> list[str]:
        names: list[str] = []
        while is_array(group / str(len(names)), self._zarr):
            names.append(str(len(names)))
        return names

    def _finish_levels(self, group: Any, image: ImageLayout, planes: TakenPlanes) -> None:
        for number, name in enumerate(self._levels_of(group)):
            shape = read_shape(group / name, self._zarr)
            final = (*planes.at_level(number, self._options.z_factor).sizes, *shape[-2:])
            if final != shape:
                write_shape(group / name, final, self._zarr, safely=True)

    def _sync(self, folder: Any, layout: Layout) -> None:
        """Nothing to do: an object that was put is safe."""

    def _group(self, image: ImageLayout) -> ObjectPath:
        return _Above(self._root) / image.file


class _Above:
    """The folder that a recording lies in: image files begin with the recording's own name."""

    def __init__(self, root: ObjectPath) -> None:
        self._root = root

    def __truediv__(self, file: str) -> ObjectPath:
        inner = file.partition("/")[2]
        return self._root / inner if inner else self._root


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
