"""A video file while it is written."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import WriteError
from mda_writers.formats.video.contrast import contrast_of
from mda_writers.formats.video.encoder import CORES, EncodingThreads, FrameMaker
from mda_writers.model.names import fold, split_suffix, unique_name
from mda_writers.storage.block_file import Unsynced
from mda_writers.storage.disk_space import explained

if TYPE_CHECKING:
    from concurrent.futures import Future
    from fractions import Fraction

    from mda_writers.formats.video.contrast import Contrast
    from mda_writers.formats.video.encoder import Picture
    from mda_writers.formats.video.options import Subject, VideoOptions


AUTO_FRAMES = 8
"""Frames whose percentiles decide ``contrast_limits="auto"``; more would not make it better."""

AUTO_SECONDS = 0.5
"""How long they are waited for, since all that time a crash would lose them."""

_SCALED_AS_GIVEN = ("uint8", "uint16", "int16")
"""Pixels that are scaled before they are mapped: then there are fewer of them to map. Of the
others, OpenCV scales some not at all, and one not-a-number would blacken its neighbours."""

_logger = logging.getLogger("mda_writers")

OPEN_ENCODERS = 16
"""Encoders that are open at once. Each has its memory (some 30 MB for 2048² and H.264) and its
threads; a recording of a thousand positions must not have a thousand of them. A video whose
encoder was closed goes on with a key frame."""

FRAMES_UNDER_WAY = 2 * CORES
"""Frames that encoders have, or that wait for one: what a kill may lose beyond the queue."""


class VideoFile:
    """Takes the frames of one video; encoders' threads make pieces of them, in the file in order.

    With ``contrast_limits="auto"`` the first few are kept until there are enough of them to find
    the limits. The pool knows which frames are in the file for good.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    subject : Subject
        What it shows.
    options : VideoOptions
        How.
    pool : VideoPool
        Shared with the recording's other videos.
    """

    def __init__(
        self, path: Path, subject: Subject, options: VideoOptions, pool: VideoPool
    ) -> None:
        self.path = path
        self._subject = subject
        self._options = options
        self._pool = pool
        self._contrast = options.contrast(subject.dtype, subject.bit_depth)
        self._held: list[tuple[int, np.ndarray, float]] = []
        self._since = 0.0
        self._encoders: EncodingThreads | None = None
        self._frames: FrameMaker | None = None
        self._fd = -1
        self._first_time_s = 0.0
        self._last_s = 0.0
        self._warned = False
        self._taken = 0
        self._sent = 0
        self._written = 0

    def take(self, pixels: np.ndarray, time_s: float) -> int:
        """Take a frame that was taken at `time_s`, and return its number in the video."""
        number = self._pool.number(pixels.nbytes)
        self._taken += 1
        if self._contrast is not None:
            self._send(self._contrast, number, pixels, time_s)
            return self._taken - 1
        if not self._held:
            self._since = monotonic()
        self._held.append((number, pixels, time_s))
        self._pool.holds(self)
        if len(self._held) >= AUTO_FRAMES:
            self.release()
        return self._taken - 1

    @property
    def is_exact(self) -> bool:
        """Whether what is read back is what was given, to the last bit."""
        known, options = self._contrast, self._options
        return options.is_exact(known) if known is not None else False

    @property
    def first_held(self) -> int | None:
        """The pool's number of the first frame that waits for the contrast."""
        return self._held[0][0] if self._held else None

    @property
    def is_under_way(self) -> bool:
        """Whether frames are with the encoders."""
        return self._written < self._sent

    def release_if_due(self) -> None:
        """Let no frame be kept for longer than it may."""
        if self._held and monotonic() - self._since > AUTO_SECONDS:
            self.release()

    def release(self) -> None:
        """Find the contrast, and send on the frames that were kept for that."""
        if not self._held:
            return
        if self._contrast is None:
            self._contrast = contrast_of([pixels for _, pixels, _ in self._held])
        while self._held:
            self._send(self._contrast, *self._held[0])
            self._held.pop(0)
        self._pool.holds(self)

    def append(self, piece: bytes) -> None:
        """Append the piece of the next frame to the file, all or nothing."""
        assert self._encoders is not None
        self._append(piece if self._written else self._encoders.header + piece)
        self._written += 1

    def rest(self) -> None:
        """Close the encoders and the file; the next frame opens them again."""
        encoders, self._encoders = self._encoders, None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if encoders is not None:
            encoders.close()

    def close(self) -> None:
        """Write all that was taken, and close."""
        try:
            self.release()
            self._pool.drain()
        finally:
            self.rest()

    # ------------------------------------------------------------ helpers

    def _send(self, contrast: Contrast, number: int, pixels: np.ndarray, time_s: float) -> None:
        """Give a frame to the encoders, as they take it."""
        self._look_for_clipping(pixels, contrast)
        encoders = self._encoders or self._begin(contrast)
        assert self._frames is not None
        frame = self._frames.make(self._shown(pixels, contrast))
        piece = encoders.encode(frame, self._sent, self._presented(time_s, encoders))
        self._sent += 1
        self._pool.sent(self, number, piece)

    def _shown(self, pixels: np.ndarray, contrast: Contrast) -> np.ndarray:
        """Return what the video holds for `pixels`, in its size, colours as RGB."""
        if pixels.dtype.name in _SCALED_AS_GIVEN:
            pixels = self._scaled(pixels)
        values = self._scaled(contrast.apply(pixels))
        if values.ndim == 3 and self._options.color_order == "BGR":
            values = values[..., ::-1]
        return np.ascontiguousarray(values)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Return `values` in the size of the video."""
        height, width = self._options.scaled(self._subject.frame_shape)[:2]
        if (height, width) == values.shape[:2]:
            return values
        import cv2

        given = np.ascontiguousarray(values)
        return cv2.resize(given, (width, height), interpolation=cv2.INTER_AREA)

    def _presented(self, time_s: float, encoders: EncodingThreads) -> Fraction | float:
        """Return when a frame is shown, in seconds from the first."""
        if self._options.timing == "constant":
            return self._sent / self._options.fps
        if self._sent == 0:
            self._first_time_s = time_s
            return 0.0
        # two frames cannot be shown at once: those of one moment follow one another
        self._last_s = max(time_s - self._first_time_s, self._last_s + float(encoders.tick_s))
        return self._last_s

    def _begin(self, contrast: Contrast) -> EncodingThreads:
        """Open the encoders and the file."""
        picture = self._picture(contrast)
        try:
            self._encoders = EncodingThreads(picture)
            self._frames = FrameMaker(picture)
        except Exception as error:
            raise WriteError(
                f"{self.path}: {self._options.codec.fourcc} cannot encode frames of "
                f"{self._subject.frame_shape} {self._subject.dtype} ({error}). Choose another "
                "fourcc, or scale."
            ) from error
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        if not self._written:
            flags |= os.O_CREAT | os.O_EXCL
        try:
            self._fd = os.open(self.path, flags, 0o666)
        except FileExistsError as error:
            raise WriteError(
                f"{self.path}: a file of that name exists, and it is not this recording's. "
                "Move it, or choose another name."
            ) from error
        return self._encoders

    def _picture(self, contrast: Contrast) -> Picture:
        picture = self._options.picture(self._subject, contrast)
        if picture.padded != picture.shape[:2] and not self._written:
            _logger.warning(
                "%s: padded from %s to %s (y, x), since %s takes even sizes only.",
                self.path,
                picture.shape[:2],
                picture.padded,
                self._options.codec.fourcc,
            )
        return picture

    def _append(self, piece: bytes) -> None:
        """Append a piece, all or nothing: half of one would hide those that follow."""
        view = memoryview(piece)
        end = os.fstat(self._fd).st_size
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            os.ftruncate(self._fd, end)
            raise explained(error, self.path, len(piece)) from error

    def _look_for_clipping(self, pixels: np.ndarray, contrast: Contrast) -> None:
        """Say it once if pixels exceed what the camera said its range is."""
        if (
            self._warned
            or self._subject.bit_depth is None
            or self._options.contrast_limits
            not in (
                None,
                "full",
            )
        ):
            return
        if not contrast.is_identity and pixels.max() > contrast.high:
            self._warned = True
            _logger.warning(
                "%s: pixels are brighter than the camera's %d bits allow, and are shown as white. "
                "Give contrast_limits=(low, high).",
                self.path,
                self._subject.bit_depth,
            )


class VideoPool:
    """Tells what is in its file, as a ``WritePool`` does for formats that use one.

    What encoders' threads have made is appended in the order in which frames came, by the writing
    thread, to which all methods belong. Nothing is appended behind a frame that was lost.
    """

    durable = False

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._open: OrderedDict[int, VideoFile] = OrderedDict()
        self._holding: dict[int, VideoFile] = {}
        self._under_way: deque[tuple[VideoFile, int, Future[bytes]]] = deque()
        self._unsynced = Unsynced()
        self._taken = 0
        self._landed = 0
        self._most_bytes = 0
        self._broken = False

    # ------------------------------------------------------------ for the videos

    def name(self, wanted: str) -> str:
        """Return a file name that no other video of the recording has."""
        stem, suffix = split_suffix(wanted)
        stem = unique_name(stem, self._names)
        self._names.add(fold(stem))
        return stem + suffix

    def number(self, nbytes: int) -> int:
        """Count a frame of so many bytes, and return its number."""
        self._taken += 1
        self._most_bytes = max(self._most_bytes, nbytes)
        return self._taken

    def sent(self, video: VideoFile, number: int, piece: Future[bytes]) -> None:
        """Note that a frame is with `video`'s encoders; wait while too many are with any.

        The encoders of the video that was not used for longest are closed, where too many are open.
        """
        self._under_way.append((video, number, piece))
        self._open[id(video)] = video
        self._open.move_to_end(id(video))
        while len(self._open) > OPEN_ENCODERS:
            resting = self._open.popitem(last=False)[1]
            while resting.is_under_way and self._advance(wait=True):
                pass
            resting.rest()
        while len(self._under_way) > FRAMES_UNDER_WAY:
            self._advance(wait=True)

    def holds(self, video: VideoFile) -> None:
        """Note whether `video` still keeps frames in memory."""
        if video.first_held is None:
            self._holding.pop(id(video), None)
        else:
            self._holding[id(video)] = video

    def drain(self) -> None:
        """Return when every frame that is with encoders is in its file."""
        while self._advance(wait=True):
            pass

    # ------------------------------------------------------------ for the journal

    def staged(self) -> int:
        """Return the number of the frame that was taken last."""
        return self._taken

    def landed(self) -> int:
        """Return the number up to which every frame is in its file."""
        while self._advance(wait=False):
            pass
        waiting = [number for _, number, _ in self._under_way]
        waiting += [n for video in self._holding.values() if (n := video.first_held) is not None]
        return min(waiting) - 1 if waiting else self._taken

    def bytes_under_way(self) -> int:
        """Return the room to keep for frames that are not in their file yet, and for one more.

        Each is reckoned at the largest so far: noise is larger when it is encoded.
        """
        return (self._taken - self._landed + 1) * self._most_bytes

    def flush(self) -> bool:
        """Let no frame be kept for longer than it may; True when none is kept."""
        for video in list(self._holding.values()):
            video.release_if_due()
        while self._advance(wait=False):
            pass
        return not self._holding and not self._under_way

    def secure(self) -> int:
        """Make what has landed survive a power cut; return the number up to which that is."""
        landed = self.landed()
        try:
            self._unsynced.sync()
        except OSError as error:
            raise explained(error, Path(error.filename)) from error
        return landed

    def close(self) -> None:
        """Nothing to close: the videos are closed one by one."""

    # ------------------------------------------------------------ helpers

    def _advance(self, wait: bool) -> bool:
        """Append what is done of the first frame under way; False if there is nothing to do."""
        if not self._under_way or self._broken:
            return False
        video, _, piece = self._under_way[0]
        if not (wait or piece.done()):
            return False
        try:
            data = piece.result()
            video.append(data)
        except BaseException:
            # what comes behind must never count as landed, nor lie where this frame belongs
            self._broken = True
            raise
        self._under_way.popleft()
        self._landed += 1
        self._most_bytes = max(self._most_bytes, len(data))
        if self.durable:
            self._unsynced.note(video.path, replaced=False)
        return True
