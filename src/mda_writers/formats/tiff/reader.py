"""Planes of our TIFF files, read back."""

from __future__ import annotations

import re
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.tiff.finish import read_head
from mda_writers.formats.tiff.layout import (
    DATA_OFFSET,
    STRIP_OFFSETS,
    FirstIfd,
    MappedPlanes,
    PlanePlaces,
)
from mda_writers.formats.tiff.ome_xml import file_uuid
from mda_writers.formats.tiff.series import TiffSeriesFormat, split
from mda_writers.model.slots import FewSlots
from mda_writers.storage.block_file import most_open

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.slots import Slots


OPEN = 64
"""Files open at once; each map holds a descriptor, of which a process may have 256 (macOS)."""

WIDTH, LENGTH, BITS, COMPRESSION, DESCRIPTION = 256, 257, 258, 259, 270

_ROOT_UUID = re.compile(rb'<OME\b[^>]*?\bUUID="([^"]*)"')


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

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of the full resolution, the only one."""
        return [image.sizes.get("z", 1)]

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


class SeriesPlanes:
    """Reads planes by their place.

    Parameters
    ----------
    folder : Path
        Where the recording is.
    header : mapping
        What the journal's first line says: how the files are named.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._folder = folder
        self._format = TiffSeriesFormat.of_header(header)
        self._files = TiffPlanes(folder)

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return the places, counted in the order of the axes."""
        if isinstance(numbers, FewSlots):
            return FewSlots(numbers.shape, numbers.places, numbers.places)
        return np.where(numbers < 0, numbers, np.arange(numbers.size).reshape(numbers.shape))

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return planes; a view of one file's map where they all lie in it, side by side."""
        sizes = tuple(image.sizes.values())
        places = [tuple(map(int, np.unravel_index(s, sizes))) if sizes else () for s in slots]
        stacks, planes = zip(*(split(image, place) for place in places), strict=True)
        if len(set(stacks)) == 1:
            return self._read(image, stacks[0], np.array(planes))
        frames = np.empty((len(slots), *image.frame_shape), image.dtype)
        for stack in dict.fromkeys(stacks):
            own = np.array([each == stack for each in stacks])
            frames[own] = self._read(image, stack, np.array(planes)[own])
        return frames

    def lost(self, image: ImageLayout, places: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return those of some places whose file is gone."""
        by_stack: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        for place in places:
            by_stack.setdefault(split(image, place)[0], []).append(place)
        folder = self._folder / image.file
        gone = (s for s in by_stack if not self._format.path_of(folder, image, *s).exists())
        return [place for stack in gone for place in by_stack[stack]]

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the full resolution: our TIFF files have no other."""
        return [image.frame_shape]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of the full resolution, the only one."""
        return [image.sizes.get("z", 1)]

    def close(self) -> None:
        """Let go of the files."""
        self._files.close()

    def _read(self, image: ImageLayout, stack: tuple[int, int], planes: np.ndarray) -> np.ndarray:
        path = self._format.path_of(self._folder / image.file, image, *stack)
        return self._files.read_file(str(path.relative_to(self._folder)), image, planes)


class PagedTiff:
    """Reads pages by number, also of a file that grows; one thread at a time.

    Parameters
    ----------
    path : Path
        The file.
    image : ImageLayout
        What its planes are.
    """

    def __init__(self, path: Path, image: ImageLayout) -> None:
        self._path = path
        self._image = image
        self._lock = threading.Lock()
        self._tif: tifffile.TiffFile | None = None
        self._let_go: Callable[[], object] = lambda: None

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return some pages.

        Raises
        ------
        CorruptRecordingError
            If there are not so many, or one cannot be decoded.
        """
        with self._lock:
            try:
                pages = [self._page(int(number)) for number in numbers]
                return pages[0][np.newaxis] if len(pages) == 1 else np.stack(pages)
            except CorruptRecordingError:
                raise
            except Exception as error:  # whatever a damaged file makes of tifffile
                raise self._corrupt(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._let_go()
            self._tif = None

    def _page(self, number: int) -> np.ndarray:
        tif = self._open(number)
        page = tif.pages[number]
        end = max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if end > self._path.stat().st_size:
            raise self._corrupt(f"plane {number} should end at byte {end}")
        plane = np.asarray(page.asarray())
        if plane.shape != self._image.frame_shape or plane.dtype != self._image.dtype:
            raise self._corrupt(f"plane {number} is of {plane.shape} {plane.dtype}")
        return plane

    def _open(self, number: int) -> tifffile.TiffFile:
        """Return the open file; opened anew when it has grown since."""
        if self._tif is not None and number < len(self._tif.pages):
            return self._tif
        self._let_go()
        self._tif = tifffile.TiffFile(self._path)
        # with a lazy array that its owner drops, as napari does, nobody closes anything
        self._let_go = weakref.finalize(self, self._tif.close)
        self._tif.pages.useframes = True  # all are as the first is, but for their place
        if number >= len(self._tif.pages):
            raise self._corrupt(f"plane {number} is said to be on disk, and is not in it")
        return self._tif

    def _corrupt(self, what: str) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self._path}: cut off or altered ({what}). Copy the file again if this is a copy; "
            "`mda-writers verify` names every frame that is damaged."
        )


def check_header(path: Path, head: bytes, image: ImageLayout) -> None:
    """Compare what the first IFD says with what the recording says.

    Raises
    ------
    CorruptRecordingError
        If they disagree: pixels would be shown in a wrong shape, or those of another file.
    """
    expected = {
        WIDTH: image.frame_shape[1],
        LENGTH: image.frame_shape[0],
        COMPRESSION: 1,
        STRIP_OFFSETS: DATA_OFFSET,
    }
    if len(image.frame_shape) == 2:
        expected[BITS] = 1 if image.dtype == "bool" else 8 * np.dtype(image.dtype).itemsize
    found = FirstIfd(head)
    if {tag: found[tag].value for tag in expected if tag in found} != expected:
        raise CorruptRecordingError(
            f"{path}: its header is not the one that was written for this recording (frames of "
            f"{image.frame_shape} {image.dtype}). The file was altered, replaced, or is a copy "
            "that went wrong; copy it again."
        )


def check_uuid(path: Path, expected: str) -> None:
    """See that an OME-TIFF is the file that it is taken for: a UUID names each file of a set.

    Raises
    ------
    CorruptRecordingError
        If it has the UUID of another file.
    """
    with path.open("rb") as stream:
        description = FirstIfd(stream.read(DATA_OFFSET)).get(DESCRIPTION)
        if description is None:
            return
        stream.seek(description.value_at)
        found = _ROOT_UUID.search(stream.read(min(description.count, DATA_OFFSET)))
    if found and found[1].decode() != expected:
        raise CorruptRecordingError(
            f"{path}: missing. A file of another recording has taken its place "
            f"({found[1].decode()}, not {expected}); put the right copy back."
        )
