"""The pixels of our BigTIFF files: one memory map a file, for every plane's place is known."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.tiff_layout import DATA_OFFSET

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout

MAPS = 64
"""Files mapped at once; each map holds a descriptor, of which a process may have 256 (macOS)."""

# tags of TIFF 6.0
_WIDTH, _LENGTH, _BITS, _STRIP_OFFSETS = 256, 257, 258, 273


class TiffPlanes:
    """Reads planes by their number in the file.

    Parameters
    ----------
    folder : Path
        Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: OrderedDict[str, np.ndarray] = OrderedDict()

    def slots(self, image: ImageLayout, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers as they are."""
        return numbers

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return planes; a view of the map where they lie side by side."""
        planes = self._planes(image, int(slots.max(initial=-1)) + 1)
        first = int(slots[0]) if len(slots) else 0
        if np.array_equal(slots, np.arange(first, first + len(slots))):
            return planes[first : first + len(slots)]  # a view instead of a copy
        return np.asarray(planes[slots])

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the full resolution: our TIFF files have no other."""
        return [image.frame_shape]

    def close(self) -> None:
        """Forget the maps; they end with the last array that views them."""
        self._maps.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_maps": OrderedDict()}

    def _planes(self, image: ImageLayout, needed: int) -> np.ndarray:
        """Return the map of an image's file, of at least `needed` planes.

        The size is asked for each time: to touch a map behind the end of its file kills the
        process.
        """
        path = self._folder / image.file
        available = (_size(path) - DATA_OFFSET) // image.frame_bytes
        if available < needed:
            raise CorruptRecordingError(
                f"{path}: cut off. It holds {max(0, available)} whole planes, and plane "
                f"{needed - 1} is said to be on disk. Copy the file again if this is a copy; the "
                "planes before the cut can be read."
            )
        planes = self._maps.pop(image.file, None)
        if planes is None or len(planes) < needed:
            planes = _map(path, image, available)
        self._maps[image.file] = planes
        if len(self._maps) > MAPS:
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


def _map(path: Path, image: ImageLayout, planes: int) -> np.ndarray:
    with path.open("rb") as stream:
        _check_header(path, stream.read(DATA_OFFSET), image)
        dtype = np.dtype(image.dtype).newbyteorder("<")
        mapped = np.memmap(stream, dtype, "r", DATA_OFFSET, (planes, *image.frame_shape))
    return mapped.view(np.ndarray)


def _check_header(path: Path, head: bytes, image: ImageLayout) -> None:
    """Compare what the first IFD says with what the recording says.

    Raises
    ------
    CorruptRecordingError
        If they disagree: pixels would be shown in a wrong shape, or those of another file.
    """
    try:
        found = _first_ifd(head)
    except (struct.error, IndexError):
        found = {}
    bits = 8 * np.dtype(image.dtype).itemsize
    expected = {
        _WIDTH: image.frame_shape[1],
        _LENGTH: image.frame_shape[0],
        _STRIP_OFFSETS: DATA_OFFSET,
    }
    if len(image.frame_shape) == 2:
        expected[_BITS] = bits
    if {tag: found.get(tag) for tag in expected} != expected:
        raise CorruptRecordingError(
            f"{path}: its header is not the one that was written for this recording (frames of "
            f"{image.frame_shape} {image.dtype}). The file was altered, replaced, or is a copy "
            "that went wrong; copy it again."
        )


def _first_ifd(head: bytes) -> dict[int, int]:
    """Return tag → first value of a little-endian BigTIFF's first IFD (inline values only)."""
    if head[:8] != b"II+\0\x08\0\0\0":
        return {}
    (start,) = struct.unpack_from("<Q", head, 8)
    (count,) = struct.unpack_from("<Q", head, start)
    formats = {3: "<H", 4: "<I", 16: "<Q"}
    tags = {}
    for n in range(min(count, 64)):
        tag, kind, values = struct.unpack_from("<HHQ", head, start + 8 + 20 * n)
        if kind in formats and values * struct.calcsize(formats[kind]) <= 8:
            tags[tag] = struct.unpack_from(formats[kind], head, start + 20 + 20 * n)[0]
    return tags
