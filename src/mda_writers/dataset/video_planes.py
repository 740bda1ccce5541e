"""The pixels of videos, ours and others: frames by number, as far as the codec kept them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.sources import Contents
from mda_writers.dataset.static_source import StaticSource
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.video_read import VideoReader
from mda_writers.model.layout import Channel, ImageLayout, Layout
from mda_writers.recording.runs import FewSlots, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OPEN = 8
"""Videos kept open at once, each with a decoder of its own."""

_BITS = 32
"""Of a slot: for a frame's number in its video; those above are the channel's."""


class VideoPlanes:
    """Reads frames of the videos of a recording; one thread at a time.

    What was recorded is given back as far as the video can tell: exactly for lossless codecs.

    Parameters
    ----------
    folder : Path
        Where the videos are.
    file_of : callable
        Returns the name of the video of an image and one of its channels, "" where it has none.
    """

    def __init__(self, folder: Path, file_of: Callable[[ImageLayout, int], str]) -> None:
        self._folder = folder
        self._file_of = file_of
        self._readers: OrderedDict[Path, VideoReader] = OrderedDict()
        self._lock = threading.Lock()

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return channel and number in one: each channel has a video of its own."""
        if "c" not in image.sizes:
            return numbers
        if isinstance(numbers, FewSlots):
            channel = numbers.indices()[:, list(image.sizes).index("c")] << _BITS
            return FewSlots(numbers.shape, numbers.places, numbers.slots + channel)
        channels = np.arange(numbers.shape[list(image.sizes).index("c")]) << _BITS
        behind = numbers.ndim - 1 - list(image.sizes).index("c")
        return np.where(numbers < 0, numbers, numbers + channels.reshape(-1, *[1] * behind))

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by channel and number."""
        with self._lock:
            frames = [self._frame(image, int(slot)) for slot in slots]
        return np.stack(frames).astype(image.dtype, copy=False)

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the shape of the frames in the video, which may have been made smaller."""
        with self._lock:
            for channel in range(image.sizes.get("c", 1)):
                name = self._file_of(image, channel)
                if name:
                    return [self._reader(self._folder / name, 0).shape]
        return [image.frame_shape]

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            while self._readers:
                self._readers.popitem()[1].close()

    def _frame(self, image: ImageLayout, slot: int) -> np.ndarray:
        channel, number = slot >> _BITS, slot & ((1 << _BITS) - 1)
        path = self._folder / self._file_of(image, channel)
        reader = self._reader(path, number)
        if number >= len(reader):
            raise CorruptRecordingError(
                f"{path}: cut off. It holds {len(reader)} frames, and frame {number} is said to be "
                "on disk. Copy the file again if this is a copy."
            )
        return reader.read_values(number)

    def _reader(self, path: Path, number: int) -> VideoReader:
        """Return an open video; opened anew when more has come since."""
        reader = self._readers.pop(path, None)
        if reader is not None and number >= len(reader):
            reader.close()
            reader = None
        if reader is None:
            reader = _open(path)
        self._readers[path] = reader
        if len(self._readers) > OPEN:
            self._readers.popitem(last=False)[1].close()
        return reader


class ForeignVideo(StaticSource):
    """Reads one video from elsewhere: its frames lie along t.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    CorruptRecordingError
        If no video can be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _open(path)
        self._lock = threading.Lock()
        image = ImageLayout(
            key="0",
            name=path.stem,
            index={},
            sizes={"t": len(self._reader)},
            frame_shape=self._reader.shape,
            dtype=self._reader.dtype.name,
            channels=(Channel(""),),
            file=path.name,
        )
        interval_s = 1 / self._reader.fps if self._reader.fps else None
        self.contents = Contents(Layout((image,), time_interval_s=interval_s), self._reader.about)

    def read(self, image: ImageLayout, slots: Iterable[int], level: int = 0) -> np.ndarray:
        """Return frames by number."""
        with self._lock:
            return np.stack([self._reader.read(int(slot)) for slot in slots])

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return when the frame is shown."""
        return {"time_s": self._reader.times_s[place[0]]}

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ForeignVideo, (self._path,)


def _open(path: Path) -> VideoReader:
    try:
        return VideoReader(path)
    except FileNotFoundError as error:
        raise CorruptRecordingError(
            f"{path}: missing. It is part of a recording that has more files in this folder; put "
            "it back beside them."
        ) from error
