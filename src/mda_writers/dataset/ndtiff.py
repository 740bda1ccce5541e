"""NDTiff, read through ndstorage; torn files as far as they go."""

from __future__ import annotations

import io
import struct
import threading
from collections import OrderedDict
from contextlib import redirect_stdout
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.source import MISSING, Contents, StaticSource
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import Channel, ImageLayout, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO


_OURS = {"time": "t", "channel": "c", "z": "z", "position": "p", "column": "col"}
_INNER = ("time", "channel", "z")

ImageIndex = tuple[tuple[str, int], ...]

INDEX = "NDTiff.index"
FULL_RESOLUTION = "Full resolution"
"""Subfolder of data sets that Micro-Manager made a pyramid of."""

OPEN = 64
"""Files open at once; they are of 4 GB each."""

Form = tuple[tuple[int, ...], np.dtype]
"""Shape and pixel type of a frame."""

_RGB = 2
_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype("<u2")

_LENGTH = struct.Struct("<I")
_NUMBERS_BYTES = 8 * 4


class NDTiffSource(StaticSource):
    """Reads an NDTiff folder, as far as it is written when it is opened.

    Axes time, channel, z, position and column become t, c, z, p and col; row and axes of a user's
    own keep their names. Indices are those of NDTiff, also of rows and columns.

    Parameters
    ----------
    path : Path
        The folder, with its ``NDTiff.index``.

    Raises
    ------
    CorruptRecordingError
        If ndstorage cannot read it.
    ImportError
        If ndstorage is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots: dict[str, np.ndarray] = {}
        try:
            self._frames = NDTiffFrames(path)
        except ImportError:
            raise
        except Exception as error:  # whatever a damaged index makes of ndstorage
            raise _corrupt(path, error) from error
        try:
            self.contents = self._described()
        except Exception as error:
            self._frames.close()
            raise _corrupt(path, error) from error

    def slots(self, key: str) -> np.ndarray:
        """Return the number of every frame in the order of the index."""
        return self._slots[key]

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their number."""
        return self._frames.read(slots.tolist())

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return the frame's metadata as Micro-Manager wrote it."""
        return self._frames.metadata(int(self._slots[image.key][place]))

    def close(self) -> None:
        """Let go of the files."""
        self._frames.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return NDTiffSource, (self._path,)

    # ------------------------------------------------------------ what is in it

    def _described(self) -> Contents:
        frames = self._frames.coordinates
        if not any(self._frames.whole):
            raise CorruptRecordingError(
                f"{self._path}: an NDTiff folder without a frame that is on disk as a whole. If it "
                "is being written, open it again when frames have come."
            )
        summary = self._frames.summary
        about = self._frames.metadata(self._frames.whole.index(True))
        pixel_size = _positive(about.get("PixelSizeUm")) or _positive(summary.get("PixelSizeUm"))
        self._names = {axis: _values(frames, axis) for axis in _axes_of(frames)}
        by_image: dict[ImageIndex, list[int]] = {}
        for number, frame in enumerate(frames):
            by_image.setdefault(self._outer(frame), []).append(number)
        images = [
            self._image(f"{n}", dict(index), numbers, _Tiling.of(summary, pixel_size or 1.0))
            for n, (index, numbers) in enumerate(by_image.items())
        ]
        layout = Layout(
            images=tuple(images),
            pixel_size_um=pixel_size,
            z_step_um=_positive(summary.get("z-step_um")),
        )
        filled = all(slots.min(initial=0) >= 0 for slots in self._slots.values())
        return Contents(layout, summary, complete=filled and self._frames.ended)

    def _outer(self, frame: dict[str, Any]) -> ImageIndex:
        index = {
            _OURS.get(axis, axis): self._number(axis, value)
            for axis, value in frame.items()
            if axis not in _INNER
        }
        return tuple(sorted(index.items()))

    def _number(self, axis: str, value: Any) -> int:
        known = self._names[axis]
        return int(value) if known is None else known[value]

    def _image(
        self, key: str, index: dict[str, int], numbers: list[int], tiling: _Tiling
    ) -> ImageLayout:
        axes = [axis for axis in _INNER if axis in self._names]
        self._slots[key] = self._filled(axes, numbers)
        channels = list(self._names.get("channel") or ())
        sizes = {_OURS[a]: n for a, n in zip(axes, self._slots[key].shape, strict=True)}
        position = self._frames.coordinates[numbers[0]].get("position")
        shape = self._frames.shape(numbers[0])
        return ImageLayout(
            key=key,
            name=position if isinstance(position, str) else f"p{index.get('p', 0)}",
            index=index,
            sizes=sizes,
            frame_shape=shape,
            dtype=self._frames.dtype(numbers[0]).name,
            channels=tuple(Channel(str(name)) for name in channels[: sizes.get("c", 1)])
            or (Channel(""),) * sizes.get("c", 1),
            position_um=tiling.position_um(index, shape),
        )

    def _filled(self, axes: list[str], numbers: list[int]) -> np.ndarray:
        """Return the slots of an image's places; frames that are not whole are missing."""
        frames = [self._frames.coordinates[number] for number in numbers]
        places = [tuple(self._number(a, f[a]) if a in f else 0 for a in axes) for f in frames]
        slots = np.full([max(along) + 1 for along in zip(*places, strict=True)], MISSING)
        for place, number in zip(places, numbers, strict=True):
            slots[place] = number if self._frames.whole[number] else MISSING
        return slots


@dataclass(frozen=True, slots=True)
class _Tiling:
    """How far apart tiles lie: their size without the overlap, which is the same for all."""

    pixel_size_um: float
    overlap_y: float
    overlap_x: float

    @classmethod
    def of(cls, summary: dict[str, Any], pixel_size_um: float) -> _Tiling:
        overlaps = (float(summary.get(f"GridPixelOverlap{axis}") or 0) for axis in "YX")
        return cls(pixel_size_um, *overlaps)

    def position_um(
        self, index: dict[str, int], shape: tuple[int, ...]
    ) -> tuple[float, float, None] | None:
        """Return where a tile lies by its row and column: rows go down, so that y gets smaller."""
        if "row" not in index or "col" not in index:
            return None
        height, width = shape[0] - self.overlap_y, shape[1] - self.overlap_x
        x, y = index["col"] * width, -index["row"] * height
        return x * self.pixel_size_um, y * self.pixel_size_um, None


def _axes_of(frames: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(axis for frame in frames for axis in frame))


def _values(frames: list[dict[str, Any]], axis: str) -> dict[Any, int] | None:
    """Return value → index along an axis of names; None where the values are indices."""
    values = list(dict.fromkeys(frame[axis] for frame in frames if axis in frame))
    indices = all(isinstance(v, int | np.integer) and v >= 0 for v in values)
    if indices or axis in ("row", "column"):
        return None
    named = all(isinstance(v, str) for v in values)
    return {value: n for n, value in enumerate(values if named else sorted(values))}


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _corrupt(path: Path, error: Exception) -> CorruptRecordingError:
    if isinstance(error, CorruptRecordingError):
        return error
    return CorruptRecordingError(
        f"{path}: not an NDTiff folder that can be read, incomplete, or altered "
        f"({type(error).__name__}: {error}). Copy it again if this is a copy."
    )


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


# What of an NDTiff folder's index is whole: it may still be being written, or was cut by a crash.
#
# An entry is the length of the frame's axes, those as JSON, the length of its file's name, that
# name, and eight numbers. Micro-Manager lays the index out with zeros beforehand, and cuts them
# off at the end of an acquisition. Source: https://github.com/micro-manager/NDStorage .


def whole_entries(index: bytes) -> bytes:
    """Return the entries of an index up to the first that is not there as a whole."""
    position = 0
    while (end := _end_of_entry(index, position)) is not None:
        position = end
    return index[:position]


def _end_of_entry(index: bytes, start: int) -> int | None:
    """Return where the entry that begins at `start` ends; None if it does not."""
    name = _behind_text(index, start)
    numbers = None if name is None else _behind_text(index, name)
    end = None if numbers is None else numbers + _NUMBERS_BYTES
    return None if end is None or end > len(index) else end


def _behind_text(index: bytes, start: int) -> int | None:
    """Return where a text ends that follows its length; None if there is none."""
    if start + _LENGTH.size > len(index):
        return None
    (length,) = _LENGTH.unpack_from(index, start)
    end = start + _LENGTH.size + int(length)
    return end if length and end <= len(index) else None
