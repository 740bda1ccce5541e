"""Videos: one file per position, channel and camera, the frames in the order in which they came."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.base import Format, FrameArray
from mda_writers.formats.video.options import Subject
from mda_writers.formats.video.reader import VideoReader, finish_video
from mda_writers.formats.video.video_file import VideoFile, VideoPool
from mda_writers.model.names import (
    MAX_NAME_LENGTH,
    room_behind,
    safe_name,
    split_suffix,
    with_stem_suffix,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.base import Place
    from mda_writers.formats.video.options import VideoOptions
    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout, Layout, PlaneInfo

OPEN_READERS = 16
"""Videos that are kept open while frames are read in the order in which they came."""


class VideoArray(FrameArray):
    """One image as videos, one for each of its channels; ``array[index] = frame``.

    What is read from it is what the videos hold: in their size, their type, and as their codec
    left it.

    Parameters
    ----------
    folder : Path
        Where the videos go.
    image : callable
        Returns the image as it is known by now: one that grows learns its channels' names.
    options : VideoOptions
        How videos are made.
    pool : VideoPool
        Shared by all videos of the recording.
    bit_depth : int or None
        Significant bits of the camera.
    """

    def __init__(
        self,
        folder: Path,
        image: Callable[[], ImageLayout],
        options: VideoOptions,
        pool: VideoPool,
        bit_depth: int | None,
    ) -> None:
        self._folder = folder
        self._image = image
        self._options = options
        self._pool = pool
        self._bit_depth = bit_depth
        self._videos: dict[int, VideoFile] = {}
        self._numbers: dict[tuple[int, ...], int] = {}
        self._time_s = 0.0
        self._clock: Callable[[Frame], float] | None = None
        # refuses pixels that no video can show before the first exposure
        options.contrast(image().dtype, bit_depth)

    # ------------------------------------------------------------ frames in

    def expect(self, frame: Frame) -> None:
        """Learn when the frame that comes next was taken."""
        if self._clock is None:
            self._clock = next(clock for clock in _CLOCKS if clock(frame) is not None)
        time_s = self._clock(frame)
        self._time_s = self._time_s if time_s is None else time_s

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        video = self._video(self._channel(index))
        self._numbers[tuple(index)] = video.take(frame, self._time_s)

    def flush(self) -> None:
        """Return when every frame so far is in its file."""
        for video in self._videos.values():
            video.release()
        self._pool.drain()

    def close(self) -> None:
        """Finish every video, whatever becomes of the others."""
        errors = []
        for video in self._videos.values():
            try:
                video.close()
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]

    @property
    def dtype(self) -> np.dtype:
        """Type of the values in the videos."""
        contrast = self._options.contrast(self._image().dtype, self._bit_depth)
        return np.dtype(contrast.stored if contrast else np.uint8)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the videos so far."""
        return tuple(video.path.name for video in list(self._videos.values()))

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return which video holds the frame of `index`, and as which of its frames."""
        video = self._videos[self._channel(index)]
        place = {"file": video.path.name, "frame": self._numbers[tuple(index)]}
        return place if video.is_exact else {**place, "lossy": True}

    # ------------------------------------------------------------ helpers

    @property
    def _frame_shape(self) -> tuple[int, ...]:
        return self._options.scaled(self._image().frame_shape)

    def _sizes_now(self) -> tuple[int, ...]:
        return tuple(self._image().sizes.values())

    def _read(self, pixels: np.ndarray, wanted: list[tuple[Place, Place]]) -> None:
        by_channel: defaultdict[int, list[tuple[int, Place]]] = defaultdict(list)
        for target, place in wanted:
            if place in self._numbers:
                by_channel[self._channel(place)].append((self._numbers[place], target))
        for channel, frames in by_channel.items():
            _read_into(pixels, self._videos[channel].path, sorted(frames))

    def _channel(self, index: tuple[int, ...]) -> int:
        axes = list(self._image().sizes)
        return int(index[axes.index("c")]) if "c" in axes else 0

    def _video(self, channel: int) -> VideoFile:
        if channel not in self._videos:
            image = self._image()
            path = self._folder / self._pool.name(_file_name(self._folder, image, channel))
            subject = self._subject(image, channel)
            self._videos[channel] = VideoFile(path, subject, self._options, self._pool)
        return self._videos[channel]

    def _subject(self, image: ImageLayout, channel: int) -> Subject:
        known = image.channels[channel] if channel < len(image.channels) else None
        return Subject(
            name=image.name,
            channel=known.name if known else "",
            camera=known.camera if known else "",
            frame_shape=image.frame_shape,
            dtype=image.dtype,
            bit_depth=self._bit_depth,
        )


class VideoFormat(Format):
    """The files of one recording as videos: how they begin, and their final form."""

    name = "video"

    claims_room = False
    shrinks = True
    new_pool = VideoPool

    def __init__(self) -> None:
        self._readers: OrderedDict[Path, VideoReader] = OrderedDict()

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> VideoFormat:
        """Return the format of the recording with this header."""
        return cls()

    def new_array(self, path: Path, image: ImageLayout, layout: Layout, pool: Any) -> Any:
        """Not asked: `CV2Writer.new_array` makes them, which knows the channels' names by now."""
        raise NotImplementedError

    def files_of(self, planes: Sequence[PlaneInfo]) -> tuple[str, ...]:
        """Return the videos that an image's frames are in."""
        return tuple(dict.fromkeys(plane.file for plane in planes if plane.file))

    def final_sizes(self, image: ImageLayout, places: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Return the sizes of what was really taken."""
        taken = np.array(places, int).reshape(len(places), len(image.sizes)).max(axis=0, initial=-1)
        return {axis: int(n) + 1 for axis, n in zip(image.sizes, taken, strict=True)}

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> dict[str, Any]:
        """Give every video its final form; returns what is known of each, for the report."""
        videos = []
        for image in layout.images:
            numbers: defaultdict[str, list[int]] = defaultdict(list)
            for plane in planes[image.key]:
                if plane.file:  # arrays of a user's own are left alone
                    numbers[plane.file].append(plane.ifd)
            for file, its_own in numbers.items():
                with self.unfinished(file):
                    videos.append({"key": image.key, **finish_video(folder / file, its_own)})
        return {"videos": videos}

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """Return the image's videos, as a whole: a lossy one has no checksums of its pixels."""
        return ((file, ()) for file in image.files)

    def discard(self, path: Path) -> None:
        """Nothing to remove: a video begins with its first frame."""

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps readers from the frames of a video; nothing if all is well."""
        try:
            with VideoReader(path):
                return ""
        except CorruptRecordingError as error:
            return str(error)

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of one frame, as far as the video can tell what was given."""
        file = path.with_name(ours["file"])
        # kept open: finding a video's frames anew for each of them would be slow
        reader = self._readers.pop(file, None) or VideoReader(file)
        self._readers[file] = reader
        if len(self._readers) > OPEN_READERS:
            self._readers.popitem(last=False)[1].close()
        return reader.read(ours["frame"], original=True)


def _file_name(folder: Path, image: ImageLayout, channel: int) -> str:
    """Return the name of a channel's video: the image's own where it has only one channel."""
    known = image.channels[channel] if channel < len(image.channels) else None
    name = known.name if known else ""
    if image.sizes.get("c", 1) == 1 and not (image.growing and name):
        return image.file
    room = min(2 * MAX_NAME_LENGTH, room_behind(*split_suffix(image.file)))
    safe = safe_name(name or f"c{channel}", max_bytes=max(1, room))
    return with_stem_suffix(folder / image.file, f"_{safe}").name


def _read_into(
    pixels: np.ndarray, path: Path, frames: Iterable[tuple[int, tuple[int, ...]]]
) -> None:
    """Read frames of a video into their places, as far as they are in the file yet."""
    try:
        reader = VideoReader(path)
    except (CorruptRecordingError, FileNotFoundError):
        return
    with reader:
        for number, target in frames:
            if number < len(reader):
                pixels[target] = reader.read(number)


def _given_time_s(frame: Frame) -> Any:
    """Return the time that the caller of ``add_frame`` gave."""
    metadata = frame.metadata
    if isinstance(metadata, bytes):
        metadata = orjson.loads(metadata)
    return _time_s(metadata.get("timestamp_s"))


def _runner_time_s(frame: Frame) -> Any:
    """Return the time at which pymmcore-plus's runner took the frame."""
    if isinstance(frame.metadata, bytes):
        return None
    time_ms = _time_s(frame.metadata.get("runner_time_ms"))
    return None if time_ms is None else time_ms / 1000


def _time_s(given: Any) -> float | None:
    """Return a time; None for what is none, such as a text of the user's or NaN."""
    return given if isinstance(given, int | float) and isfinite(given) else None


def _handed_over_s(frame: Frame) -> Any:
    return frame.monotonic_s


# the first that a video's first frame has is the one for all of them: two clocks do not mix
_CLOCKS: tuple[Callable[[Frame], Any], ...] = (_given_time_s, _runner_time_s, _handed_over_s)
