"""The header of a TIFF file: what its first directory says, compared with the recording.

Source: TIFF 6.0, and https://www.awaresystems.be/imaging/tiff/bigtiff.html .
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.tiff_layout import DATA_OFFSET

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout

WIDTH, LENGTH, BITS, COMPRESSION, STRIP_OFFSETS = 256, 257, 258, 259, 273

_FORMATS = {3: "<H", 4: "<I", 16: "<Q"}
_MOST_TAGS = 64


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
    found = first_ifd(head)
    if {tag: found.get(tag) for tag in expected} != expected:
        raise CorruptRecordingError(
            f"{path}: its header is not the one that was written for this recording (frames of "
            f"{image.frame_shape} {image.dtype}). The file was altered, replaced, or is a copy "
            "that went wrong; copy it again."
        )


def first_ifd(head: bytes) -> dict[int, int]:
    """Return tag → first value of a little-endian file's first IFD; empty if there is none.

    Values that lie elsewhere (the bits of three samples) are left out.
    """
    try:
        if head[:8] == b"II+\0\x08\0\0\0":
            return _entries(head, struct.unpack_from("<Q", head, 8)[0], "<Q", "<HHQ", 8)
        if head[:4] == b"II*\0":
            return _entries(head, struct.unpack_from("<I", head, 4)[0], "<H", "<HHI", 4)
    except struct.error:
        pass
    return {}


def _entries(head: bytes, start: int, counter: str, entry: str, room: int) -> dict[int, int]:
    """Return the tags of the IFD at `start`, whose entries have `room` bytes for their values."""
    (count,) = struct.unpack_from(counter, head, start)
    start += struct.calcsize(counter)
    tags = {}
    for n in range(min(count, _MOST_TAGS)):
        at = start + n * (struct.calcsize(entry) + room)
        tag, kind, values = struct.unpack_from(entry, head, at)
        if kind in _FORMATS and values * struct.calcsize(_FORMATS[kind]) <= room:
            tags[tag] = struct.unpack_from(_FORMATS[kind], head, at + struct.calcsize(entry))[0]
    return tags
