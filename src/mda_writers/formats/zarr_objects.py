"""OME-Zarr in an object store: every chunk an object, put by several threads at once.

There are no shards here: an object cannot be written in parts. A frame counts as written when
all of its objects have been put, and the arrays' shapes follow then.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.ngff import ZARR_FORMAT
from mda_writers.formats.ome_zarr import OmeZarrFormat
from mda_writers.formats.zarr_array import ZarrArray
from mda_writers.formats.zarr_frames import open_level, read_frame
from mda_writers.formats.zarr_grid import grid_of, plane_sizes
from mda_writers.formats.zarr_image import ZarrImage
from mda_writers.formats.zarr_options import ZarrOptions
from mda_writers.formats.zarr_store import is_array, read_shape, write_shape
from mda_writers.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.taken_planes import TakenPlanes
    from mda_writers.model.layout import ImageLayout, Layout


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
