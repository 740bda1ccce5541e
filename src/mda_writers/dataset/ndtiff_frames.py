"""The frames of an NDTiff folder: ndstorage says which there are and where their pixels lie."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from contextlib import redirect_stdout
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.ndtiff_index import whole_entries
from mda_writers.errors import CorruptRecordingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO

INDEX = "NDTiff.index"
FULL_RESOLUTION = "Full resolution"
"""Subfolder of data sets that Micro-Manager made a pyramid of."""

OPEN = 64
"""Files open at once; they are of 4 GB each."""

Form = tuple[tuple[int, ...], np.dtype]
"""Shape and pixel type of a frame."""

_RGB = 2
_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype("<u2")


class NDTiffFrames:
    """Finds and reads the frames of a folder.

    What is still being written, or was interrupted, is read as far as it is whole.

    Parameters
    ----------
    path : Path
        The folder.

    Attributes
    ----------
    coordinates : list of dict
        NDTiff's own coordinates of every frame, whole or not.
    whole : list of bool
        Whether a frame is on disk with all of its bytes.
    ended : bool
        Whether the index was ended as it should be.

    Raises
    ------
    ImportError
        If ndstorage is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from ndstorage import NDTiffDataset
            from ndstorage.file_io import NDTiffFileIO
        except ImportError as error:
            raise ImportError(
                f"{path}: reading NDTiff needs the package ndstorage. Install it with "
                "`pip install mda-writers[ndtiff]`."
            ) from error
        full = path / FULL_RESOLUTION
        self._folder = full if full.is_dir() else path
        self._lock = threading.Lock()
        self._files: OrderedDict[str, FileIO] = OrderedDict()
        index = (self._folder / INDEX).read_bytes()
        whole = whole_entries(index)
        self.ended = len(whole) == len(index)
        with redirect_stdout(io.StringIO()):  # it tells of its progress
            file_io = NDTiffFileIO(open_function=_opener(whole))
            self._data = NDTiffDataset(str(self._folder), file_io=file_io)
        if self._data.major_version < 3:
            self._data.close()
            raise CorruptRecordingError(
                f"{path}: written by version {self._data.major_version} of NDTiff; this package "
                "reads those from 3 on. Open it with ndstorage itself, and save its arrays anew."
            )
        self.coordinates = [dict(key) for key in self._data.index]
        self._entries = list(self._data.index.values())
        known: dict[Form, Form] = {}  # few, however many frames
        self._forms = [known.setdefault(form, form) for form in map(_form, self._entries)]
        sizes = {name: self._size(name) for name in {entry.filename for entry in self._entries}}
        self.whole = [_end(entry) <= sizes[entry.filename] for entry in self._entries]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary metadata."""
        return dict(self._data.summary_metadata or {})

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of a frame."""
        return self._forms[number][0]

    def dtype(self, number: int) -> np.dtype:
        """Return the pixel type of a frame."""
        return self._forms[number][1]

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """Return frames of one shape and type.

        Raises
        ------
        CorruptRecordingError
            If a file is cut off, or the frames differ.
        """
        shape, dtype = form = self._forms[numbers[0]]
        frames = np.empty((len(numbers), *shape), dtype)
        with self._lock:
            for frame, number in zip(frames, numbers, strict=True):
                if self._forms[number] != form:
                    raise self._differ(form, self._forms[number])
                self._read_into(frame, self._entries[number])
        return frames

    def metadata(self, number: int) -> dict[str, Any]:
        """Return a frame's metadata as Micro-Manager wrote it."""
        with self._lock:
            return dict(self._data.read_metadata(**self.coordinates[number]) or {})

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            self._files.popitem()[1].close()
        self._data.close()

    # ------------------------------------------------------------ files

    def _size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return 0

    def _read_into(self, frame: np.ndarray, entry: Any) -> None:
        file = self._files.get(entry.filename) or self._opened(entry.filename)
        file.seek(entry.pix_offset)
        if file.readinto(frame.data) != frame.nbytes:
            raise CorruptRecordingError(
                f"{self._folder / entry.filename}: cut off. A frame is said to end at byte "
                f"{_pixels_end(entry)}. Copy the file again if this is a copy."
            )

    def _differ(self, *forms: Form) -> CorruptRecordingError:
        both = " and ".join(f"{shape} {dtype}" for shape, dtype in forms)
        return CorruptRecordingError(
            f"{self._folder}: frames of one image that differ in shape or type, {both}. Read them "
            "one by one with ndstorage."
        )

    def _opened(self, name: str) -> FileIO:
        """Return an open file; the system's cache is all the buffer that frames need."""
        if len(self._files) == OPEN:
            self._files.popitem(last=False)[1].close()
        return self._files.setdefault(name, (self._folder / name).open("rb", buffering=0))


def _opener(index: bytes) -> Any:
    """Return what opens files as `open` does, but the index with the entries that are whole."""

    def open_file(path: str, mode: str) -> Any:
        return io.BytesIO(index) if path.endswith(INDEX) else Path(path).open(mode)

    return open_file


def _form(entry: Any) -> Form:
    """Return shape and pixel type: 0 and 2 have 8 bits a sample, those of 10 to 16 bits have 16."""
    samples = (3,) if entry.pixel_type == _RGB else ()
    dtype = _UINT8 if entry.pixel_type in (0, _RGB) else _UINT16
    return (entry.image_height, entry.image_width, *samples), dtype


def _pixels_end(entry: Any) -> int:
    shape, dtype = _form(entry)
    return int(entry.pix_offset) + prod(shape) * dtype.itemsize


def _end(entry: Any) -> int:
    return max(_pixels_end(entry), int(entry.metadata_offset + entry.metadata_length))
