"""The header of a TIFF file: what its first directory says, compared with the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.tiff_layout import DATA_OFFSET, STRIP_OFFSETS, FirstIfd

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout

WIDTH, LENGTH, BITS, COMPRESSION = 256, 257, 258, 259


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
