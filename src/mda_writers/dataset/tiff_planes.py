"""The pixels of our TIFF files: one memory map a file, for every plane's place is known."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.paged_tiff import PagedTiff
from mda_writers.dataset.tiff_header import COMPRESSION, check_header, check_uuid
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.ome_xml import file_uuid
from mda_writers.formats.tiff_ending import read_head
from mda_writers.formats.tiff_layout import STRIP_OFFSETS, FirstIfd, MappedPlanes, PlanePlaces
from mda_writers.storage.block_file import most_open

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.runs import Slots

OPEN = 64
"""Files open at once; each map holds a descriptor, of which a process may have 256 (macOS)."""


class TiffPlanes:
    """Reads planes by their number in the image's file.

    Parameters
    ----------
    folder : Path
        Where the files are.
    linked : bool
        Whether the files of one of several images have a gap (see `PlanePlaces`).
    set_id : str
        The recording's, from which the UUIDs of its OME-TIFF files are derived; "" to trust names.
    """

    def __init__(self, folder: Path, linked: bool = False, set_id: str = "") -> None:
        self._folder = folder
        self._linked = linked
        self._set_id = set_id
        self._known: set[str] = set()
        self._maps: OrderedDict[str, MappedPlanes] = OrderedDict()
        self._paged: OrderedDict[str, PagedTiff] = OrderedDict()

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return the numbers as they are."""
        return numbers

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return planes; a view of the map where they lie side by side."""
        return self.read_file(image.file, image, slots)

    def read_file(self, name: str, image: ImageLayout, numbers: np.ndarray) -> np.ndarray:
        """Return planes of a file of an image."""
        if self._set_id and name not in self._known:
            _size(self._folder / name)
            check_uuid(self._folder / name, file_uuid(self._set_id, image.key))
            self._known.add(name)
        if not len(numbers):
            return np.zeros((0, *image.frame_shape), image.dtype)
        paged = self._compressed(name, image)
        if paged is not None:
            return paged.read(numbers)
        return self._planes(name, image, int(numbers.max()) + 1).read(numbers)

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the full resolution: our TIFF files have no other."""
        return [image.frame_shape]

    def close(self) -> None:
        """Let go of the files; a map ends with the last array that views it."""
        self._maps.clear()
        while self._paged:
            self._paged.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_folder": self._folder,
            "_linked": self._linked,
            "_set_id": self._set_id,
            "_known": set(),
            "_maps": OrderedDict(),
            "_paged": OrderedDict(),
        }

    # ------------------------------------------------------------ helpers

    def _compressed(self, name: str, image: ImageLayout) -> PagedTiff | None:
        """Return the reader of a file whose planes have no fixed places; None where they have."""
        if name in self._maps:
            return None
        paged = self._paged.get(name)
        if paged is None:
            path = self._folder / name
            _size(path)
            compression = FirstIfd(read_head(path)).get(COMPRESSION)
            if compression is None or compression.value == 1:
                return None
            paged = self._paged.setdefault(name, PagedTiff(path, image))
            if len(self._paged) > most_open(OPEN):
                self._paged.popitem(last=False)[1].close()
        return paged

    def _planes(self, name: str, image: ImageLayout, needed: int) -> MappedPlanes:
        """Return the map of a file, of at least `needed` planes.

        The size is asked for each time: to touch a map behind the end of its file kills the
        process.
        """
        path, size = self._folder / name, _size(self._folder / name)
        places = PlanePlaces(image.frame_shape, image.dtype, self._linked and image.one_of_several)
        planes = self._maps.pop(name, None)
        if planes is None or not len(planes) >= needed <= places.planes_in(size, planes.split):
            planes = _map(path, image, places, size, needed)
        self._maps[name] = planes
        if len(self._maps) > most_open(OPEN):
            self._maps.popitem(last=False)
        return planes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise CorruptRecordingError(
            f"{path}: missing. It is part of a recording that has more files in this folder; put "
            "it back beside them."
        ) from error


def _map(
    path: Path, image: ImageLayout, places: PlanePlaces, size: int, needed: int
) -> MappedPlanes:
    head = read_head(path)
    strips = FirstIfd(head).get(STRIP_OFFSETS)
    split = places.is_split(1) and strips is not None and strips.count == 2
    available = places.planes_in(size, split)
    if available < needed:
        raise CorruptRecordingError(
            f"{path}: cut off. It holds {max(0, available)} whole planes, and plane "
            f"{needed - 1} is said to be on disk. Copy the file again if this is a copy; the "
            "planes before the cut can be read."
        )
    check_header(path, head, image)
    return MappedPlanes(path, places, available, split)
