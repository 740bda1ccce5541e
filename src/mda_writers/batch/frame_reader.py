"""The pixels of frames as they lie on disk: at their offset, if they have one."""

from __future__ import annotations

from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from mda_writers.recording.formats_table import format_of
from mda_writers.storage.block_file import most_open

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.stored import StoredRecording

OPEN_FILES = 32
"""Files kept open: frames of many positions may follow one another in any order."""


class FrameReader:
    """Reads the pixels of a recording's frames: at their offset, else through the format.

    Parameters
    ----------
    stored : StoredRecording
        The recording.
    """

    def __init__(self, stored: StoredRecording) -> None:
        self._folder = stored.path.parent
        self._images = stored.images
        self._format = format_of(stored.header)
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def read(self, key: str, ours: Mapping[str, Any]) -> np.ndarray:
        """Return a frame's pixels; they are valid until the next call."""
        image = self._images[key]
        # the last row of a set's only plane lies apart
        in_one_piece = image.planes > 1 or not image.one_of_several
        if "offset_bytes" in ours and in_one_piece:
            return self._read_at(str(ours["file"]), int(ours["offset_bytes"]), image)
        pixels = self._format.read_frame(self._folder / image.file, image, ours)
        return np.ascontiguousarray(pixels)

    def _read_at(self, name: str, offset: int, image: ImageLayout) -> np.ndarray:
        if len(self._buffer) != image.frame_bytes:
            self._buffer = bytearray(image.frame_bytes)
        file = self._file(name)
        file.seek(offset)
        count = file.readinto(self._buffer)  # type: ignore[attr-defined]
        if count < len(self._buffer):
            raise EOFError(f"the file ends {len(self._buffer) - count} bytes before it does")
        return np.frombuffer(self._buffer, np.uint8)

    def _file(self, name: str) -> IO[bytes]:
        file = self._files.pop(name, None) or (self._folder / name).open("rb", buffering=0)
        self._files[name] = file
        if len(self._files) > most_open(OPEN_FILES):
            self._files.popitem(last=False)[1].close()
        return file
