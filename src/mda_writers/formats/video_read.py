"""Read a video back: its frames by number, and the pixel values that they stand for."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.contrast import Contrast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ABOUT_KEY = "mda_writers"
"""Where in the ``comment`` of a file's header this package says what it wrote there."""


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
