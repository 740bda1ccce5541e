"""What the videos of one recording share: names, a few open encoders, and what has landed."""

from __future__ import annotations

from collections import OrderedDict, deque
from pathlib import Path
from typing import TYPE_CHECKING

from mda_writers.formats.video_threads import CORES
from mda_writers.model.names import fold, split_suffix, unique_name
from mda_writers.storage.failure import explained
from mda_writers.storage.file_system import Unsynced

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mda_writers.formats.video_film import Film

OPEN_ENCODERS = 16
"""Encoders that are open at once. Each has its memory (some 30 MB for 2048² and H.264) and its
threads; a recording of a thousand positions must not have a thousand of them. A video whose
encoder was closed goes on with a key frame."""

FRAMES_UNDER_WAY = 2 * CORES
"""Frames that encoders have, or that wait for one: what a kill may lose beyond the queue."""


class VideoPool:
    """Tells what is in its file, as a ``WritePool`` does for formats that use one.

    What encoders' threads have made is appended in the order in which frames came, by the writing
    thread, to which all methods belong. Nothing is appended behind a frame that was lost.
    """

    durable = False

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._open: OrderedDict[int, Film] = OrderedDict()
        self._holding: dict[int, Film] = {}
        self._under_way: deque[tuple[Film, int, Future[bytes]]] = deque()
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

    def sent(self, film: Film, number: int, piece: Future[bytes]) -> None:
        """Note that a frame is with `film`'s encoders; wait while too many are with any.

        The encoders of the video that was not used for longest are closed, where too many are open.
        """
        self._under_way.append((film, number, piece))
        self._open[id(film)] = film
        self._open.move_to_end(id(film))
        while len(self._open) > OPEN_ENCODERS:
            resting = self._open.popitem(last=False)[1]
            while resting.is_under_way and self._advance(wait=True):
                pass
            resting.rest()
        while len(self._under_way) > FRAMES_UNDER_WAY:
            self._advance(wait=True)

    def holds(self, film: Film) -> None:
        """Note whether `film` still keeps frames in memory."""
        if film.first_held is None:
            self._holding.pop(id(film), None)
        else:
            self._holding[id(film)] = film

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
        waiting += [n for film in self._holding.values() if (n := film.first_held) is not None]
        return min(waiting) - 1 if waiting else self._taken

    def bytes_under_way(self) -> int:
        """Return the room to keep for frames that are not in their file yet, and for one more.

        Each is reckoned at the largest so far: noise is larger when it is encoded.
        """
        return (self._taken - self._landed + 1) * self._most_bytes

    def flush(self) -> bool:
        """Let no frame be kept for longer than it may; True when none is kept."""
        for film in list(self._holding.values()):
            film.release_if_due()
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
        film, _, piece = self._under_way[0]
        if not (wait or piece.done()):
            return False
        try:
            data = piece.result()
            film.append(data)
        except BaseException:
            # what comes behind must never count as landed, nor lie where this frame belongs
            self._broken = True
            raise
        self._under_way.popleft()
        self._landed += 1
        self._most_bytes = max(self._most_bytes, len(data))
        if self.durable:
            self._unsynced.note(film.path, replaced=False)
        return True
