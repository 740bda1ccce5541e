"""The header of a TIFF file: what its first directory says, compared with the recording."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.tiff_layout import DATA_OFFSET, STRIP_OFFSETS, FirstIfd

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout

WIDTH, LENGTH, BITS, COMPRESSION, DESCRIPTION = 256, 257, 258, 259, 270

_ROOT_UUID = re.compile(rb'<OME\b[^>]*?\bUUID="([^"]*)"')


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
            f"({found[1].decode()}, not {expected}); put the right one back."
        )
