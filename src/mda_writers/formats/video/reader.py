"""Frames of our videos: found, decoded, and given their final form."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import orjson

from mda_writers.errors import CorruptRecordingError, DiskFullError, WriteError
from mda_writers.formats.video.container import CONTAINERS
from mda_writers.formats.video.contrast import Contrast
from mda_writers.model.layout import ImageLayout
from mda_writers.model.slots import FewSlots, Slots
from mda_writers.storage.block_file import sync_file
from mda_writers.storage.disk_space import explained, free_bytes
from mda_writers.storage.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


OPEN = 8
"""Videos kept open at once, each with a decoder of its own."""

_BITS = 32
"""Of a slot: for a frame's number in its video; those above are the channel's."""

ABOUT_KEY = "mda_writers"
"""Where in the ``comment`` of a file's header this package says what it wrote there."""

_INDEX_BYTES_A_FRAME = 32
"""Room reserved in front of an MP4's frames for its index: size, time, place and key flag of a
frame take less. In front, because players of a web page should not have to fetch the end first."""

_logger = logging.getLogger("mda_writers")


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

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of the full resolution, the only one."""
        return [image.sizes.get("z", 1)]

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


def _open(path: Path) -> VideoReader:
    try:
        return VideoReader(path)
    except FileNotFoundError as error:
        raise CorruptRecordingError(
            f"{path}: missing. It is part of a recording that has more files in this folder; put "
            "it back beside them."
        ) from error


class VideoReader:
    """The frames of one video, finished, interrupted or still being written.

    What is in the file when it is opened is what there is; open it again to see more. One thread
    at a time.

    Parameters
    ----------
    path : Path
        A video of this package; others are read as colour.

    Attributes
    ----------
    about : dict
        What the writer said: ``fourcc``, ``encoder``, ``shape`` (of the frames, before padding),
        ``fps``, ``timing``, ``contrast``, ``lossless``, ``channel``, …; empty for other videos.
    shape : tuple of int
        ``(y, x)`` or ``(y, x, 3)`` of a frame, without the padding.
    dtype : np.dtype
        Type of the values in the video.
    times_s : list of float
        When each frame is shown, in seconds.

    Raises
    ------
    CorruptRecordingError
        If there is no video in the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()
        self.about = about_of(self._file)
        stream = self._stream
        self.padded = (stream.codec_context.height, stream.codec_context.width)
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        entry = self.about.get("contrast")
        self.contrast = Contrast.from_description(entry) if entry else None
        self.shape: tuple[int, ...] = tuple(self.about.get("shape", (*self.padded, 3)))
        self.dtype = np.dtype(self.contrast.stored if self.contrast else np.uint8)
        self._index_frames()

    def __len__(self) -> int:
        return len(self.times_s)

    def __getitem__(self, number: int) -> np.ndarray:
        return self.read(number)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.read(number) for number in range(len(self)))

    def read(self, number: int, *, original: bool = False) -> np.ndarray:
        """Return one frame.

        Reading forwards costs one frame each; anywhere else, at most the frames since the last
        key frame before it.

        Parameters
        ----------
        number : int
            From 0; negative numbers count from the end.
        original : bool
            Whether to return what was given to the writer, as far as the video can tell: pixel
            values instead of what they were mapped to, colours in their order. Exact for lossless
            codecs without ``contrast_limits``, else to within one step of the mapping and what
            the codec lost. Otherwise the values in the video, colours as RGB.

        Raises
        ------
        IndexError
            If the video has no such frame.
        """
        if not original:
            return self._stored(number)
        values = self.read_values(number)
        if values.ndim < 3 or self.about.get("color_order") != "BGR":
            return values
        return np.ascontiguousarray(values[..., ::-1])

    def read_values(self, number: int) -> np.ndarray:
        """Return one frame with the values that were given, as in `read`, but colours as RGB."""
        pixels = self._stored(number)
        return pixels if self.contrast is None else self.contrast.invert(pixels)

    @property
    def last_key(self) -> int:
        """The last frame that needs no other one to be shown."""
        return self._keys[-1] if self._keys else 0

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ helpers

    def _stored(self, number: int) -> np.ndarray:
        """Return one frame as it is in the video."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path.name} has {len(self)} frames, none of number {number}.")
        return self._pixels(self._decoded(number % len(self)))

    def _open(self) -> None:
        self._file = open_video(self.path)
        self._stream = self._file.streams.video[0]
        # threads that each decode a frame would give the first one late
        self._stream.codec_context.thread_type = "SLICE"
        self._packets = iter_packets(self._file, self._stream)
        self._decoding: Iterator[Any] = iter(())
        self._next = 0

    def _index_frames(self) -> None:
        """Note every frame's time, and which can be decoded without others."""
        self._ticks: list[int] = []
        self._keys: list[int] = []
        for number, packet in enumerate(self._packets):
            self._ticks.append(_ticks_of(packet))
            if packet.is_keyframe:
                self._keys.append(number)
        self._numbers = {ticks: number for number, ticks in enumerate(self._ticks)}
        base = float(self._stream.time_base)
        self.times_s = [ticks * base for ticks in self._ticks]
        self._next = len(self._ticks)  # whoever reads goes to where his frame is

    def _reopen(self) -> None:
        self._file.close()
        self._open()

    def _decoded(self, number: int) -> Any:
        """Return a frame as FFmpeg decoded it."""
        before = bisect_right(self._keys, number)
        key = self._keys[before - 1] if before else 0
        if not key <= self._next <= number:
            self._go_to(key)
        for frame in self._decoding:
            self._next += 1
            if self._next == number + 1:
                return frame
        raise CorruptRecordingError(
            f"{self.path}: frame {number} cannot be decoded. The frames before key frame {key} can."
        )

    def _go_to(self, key: int) -> None:
        """Go on with the key frame of that number."""
        import av

        with suppress(av.error.FFmpegError):
            self._file.seek(self._ticks[key], stream=self._stream, backward=True)
            self._stream.codec_context.flush_buffers()
            self._packets = iter_packets(self._file, self._stream)
            if self._decode_from(key):
                return
        # a file without an index may not be sought in
        self._reopen()
        self._decode_from(key)

    def _decode_from(self, key: int) -> bool:
        """Pass over what comes before a key frame; False if that has gone by already."""
        for packet in self._packets:
            number = self._numbers.get(_ticks_of(packet), key + 1)
            if number > key:
                return False
            if number == key:
                self._decoding, self._next = self._decode(packet), key
                return True
        return False

    def _decode(self, first: Any) -> Iterator[Any]:
        yield from first.decode()
        for packet in self._packets:
            yield from packet.decode()
        yield from self._stream.codec_context.decode(None)

    def _pixels(self, frame: Any) -> np.ndarray:
        height, width = self.shape[:2]
        kind = _FORMATS[self.dtype.name, len(self.shape) == 3]
        return np.ascontiguousarray(frame.to_ndarray(format=kind)[:height, :width])


def open_video(path: Path) -> Any:
    """Return an open file that has a video stream.

    Raises
    ------
    CorruptRecordingError
        If there is none in it.
    """
    import av

    try:
        file = av.open(str(path), "r")
    except av.error.FFmpegError as error:
        raise CorruptRecordingError(f"{path}: no video can be read ({error}).") from error
    if not file.streams.video:
        file.close()
        raise CorruptRecordingError(f"{path}: no video can be read (there is none in it).")
    return file


def iter_packets(file: Any, stream: Any) -> Iterator[Any]:
    """Return the encoded frames of a file, up to the first that is torn."""
    import av

    try:
        for packet in file.demux(stream):
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                return
            yield packet
    except av.error.FFmpegError:
        return  # a fragment that a crash cut off


def _ticks_of(packet: Any) -> int:
    """Return when a frame is shown, in the stream's units; AVI only knows when it is decoded."""
    ticks = packet.dts if packet.pts is None else packet.pts
    return int(ticks or 0)


def about_of(file: Any) -> dict[str, Any]:
    """Return what the header of an open file says about it; empty if it is not one of ours."""
    for key, text in file.metadata.items():
        if key.lower() == "comment":
            with suppress(orjson.JSONDecodeError):
                content = orjson.loads(text)
                if isinstance(content, dict):
                    return dict(content.get(ABOUT_KEY) or {})
    return {}


_FORMATS = {
    ("uint8", False): "gray",
    ("uint8", True): "rgb24",
    ("uint16", False): "gray16le",
    ("uint16", True): "rgb48le",
}


def finish_video(path: Path, numbers: Sequence[int]) -> dict[str, Any]:
    """Give a video its ordinary form, and return what is known of it.

    The frames are copied as they are encoded, into a file beside that takes the place of the first
    once it has been read back. Without room for that, the first stays.

    Parameters
    ----------
    path : Path
        The video; nobody else writes to it.
    numbers : sequence of int
        The frames that the journal names.

    Raises
    ------
    WriteError
        If the file does not hold the frames that were written.
    """
    if sorted(numbers) != list(range(len(numbers))):
        raise WriteError(f"{path}: the journal does not name its frames one after the other.")
    about = _made_seekable(path, len(numbers))
    if about is None:
        _logger.warning(
            "%s: there was no room for a second copy, so it keeps the form in which it was "
            "recorded, which holds all frames and plays, but has no index. `ffmpeg -i … -c copy …` "
            "makes one.",
            path,
        )
        about = {"form": "fragments", **_read_back(path, path, len(numbers))}
        sync_file(path)
    return {"file": path.name, **about}


def _made_seekable(path: Path, frames: int) -> dict[str, Any] | None:
    """Give a video its index; None where there is no room for that."""
    import av

    if free_bytes(path.parent) < path.stat().st_size:
        return None
    try:
        with replacing(path) as stream:
            copied = _remux(path, stream, reserve=_INDEX_BYTES_A_FRAME * (frames + 500))
            if copied < frames:
                raise _too_few(path, copied, frames)
            stream.flush()
            return {"form": "ordinary", **_read_back(Path(stream.name), path, max(copied, frames))}
    except CorruptRecordingError as error:
        raise _too_few(path, 0, frames) from error
    except (OSError, av.error.FFmpegError) as error:
        wrapped = explained(_cause(error), path)
        if isinstance(wrapped, DiskFullError):
            return None
        raise wrapped from error


def _cause(error: BaseException) -> OSError:
    """Return what the system said: PyAV raises errors of its own on top of it."""
    found, link = OSError(str(error)), error.__context__
    if isinstance(error, OSError):
        found = error
    while link is not None:
        found = link if isinstance(link, OSError) else found
        link = link.__context__
    return found


def _remux(path: Path, stream: IO[bytes], reserve: int) -> int:
    """Copy the encoded frames of `path` into an ordinary file, and return how many there are."""
    import av

    name = CONTAINERS[path.suffix.lower()].name
    options = {"fflags": "bitexact"}  # the same video twice is the same file twice
    if name == "mp4":
        options["moov_size"] = str(reserve)
    count = 0
    with open_video(path) as source, av.open(stream, "w", format=name, options=options) as target:
        given = source.streams.video[0]
        made = target.add_stream_from_template(given)
        made.time_base = given.time_base
        if about_of(source).get("timing") == "constant":
            made.codec_context.framerate = given.average_rate
        target.metadata.update(source.metadata)
        intra = given.codec_context.name in ("ffv1", "mjpeg")
        for packet in iter_packets(source, given):
            if intra:
                packet.is_keyframe = True  # without an index, nothing says so
            if packet.dts is None:  # none of our codecs shows frames in another order
                packet.dts = packet.pts
            packet.stream = made
            target.mux(packet)
            count += 1
    return count


def _read_back(beside: Path, path: Path, frames: int) -> dict[str, Any]:
    """Return what the finished file says about itself, if it holds what it should."""
    with VideoReader(beside) as reader:
        if len(reader) < frames:
            raise _too_few(path, len(reader), frames)
        padded = tuple(reader.about.get("padded", reader.padded))
        if reader.padded != padded:
            raise WriteError(
                f"{path}: the video is {reader.padded}, the frames were {padded} (y, x). The file "
                "is left as it is."
            )
        try:
            for number in {0, reader.last_key}:
                reader.read(number)
        except CorruptRecordingError as error:
            raise WriteError(f"{path}: {error}") from error
        return {"frames": len(reader), **reader.about}


def _too_few(path: Path, found: int, frames: int) -> WriteError:
    return WriteError(
        f"{path}: {found} frames can be read back, {frames} were written. The file is left as it "
        "is; what the journal names can be looked up there."
    )
