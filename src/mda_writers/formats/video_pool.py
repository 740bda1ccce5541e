"""What the videos of one recording share: names, a few open encoders, and what has landed."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from mda_writers.model.names import fold, split_suffix, unique_name

if TYPE_CHECKING:
    from mda_writers.formats.video_film import Film

OPEN_ENCODERS = 16
"""Encoders that are open at once. Each has its memory (some 30 MB for 2048² and H.264) and its
threads; a recording of a thousand positions must not have a thousand of them. A video whose
encoder was closed goes on with a key frame."""


class VideoPool:
    """Tells what is in its file, as a ``WritePool`` does for formats that use one.

    A frame is in its file when its video has taken it, except while the video still looks at its
    first frames to find its contrast.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._open: OrderedDict[int, Film] = OrderedDict()
        self._holding: dict[int, Film] = {}
        self._unsynced: dict[int, Film] = {}
        self._taken = 0

    # ------------------------------------------------------------ for the videos

    def name(self, wanted: str) -> str:
        """Return a file name that no other video of the recording has."""
        stem, suffix = split_suffix(wanted)
        stem = unique_name(stem, self._names)
        self._names.add(fold(stem))
        return stem + suffix

    def number(self) -> int:
        """Count a frame, and return its number."""
        self._taken += 1
        return self._taken

    def opened(self, film: Film) -> None:
        """Note that `film` has used its encoder; close the one that was not used for longest."""
        self._open[id(film)] = film
        self._open.move_to_end(id(film))
        self._unsynced[id(film)] = film
        while len(self._open) > OPEN_ENCODERS:
            self._open.popitem(last=False)[1].rest()

    def holds(self, film: Film) -> None:
        """Note whether `film` still keeps frames in memory."""
        if film.first_held is None:
            self._holding.pop(id(film), None)
        else:
            self._holding[id(film)] = film

    # ------------------------------------------------------------ for the journal

    def staged(self) -> int:
        """Return the number of the frame that was taken last."""
        return self._taken

    def landed(self) -> int:
        """Return the number up to which every frame is in its file."""
        held = [film.first_held for film in self._holding.values() if film.first_held is not None]
        return min(held) - 1 if held else self._taken

    def flush(self) -> bool:
        """Let no frame be kept for longer than it may; True when none is kept."""
        for film in list(self._holding.values()):
            film.release_if_due()
        return not self._holding

    def sync(self) -> None:
        """Return when every frame that has landed would survive a power cut."""
        while self._unsynced:
            film = self._unsynced.popitem()[1]
            fd = os.open(film.path, os.O_RDWR)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Nothing to close: the videos are closed one by one."""
