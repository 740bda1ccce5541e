"""The frame table: one journal line a frame, written once the frame's pixels have landed."""

from __future__ import annotations

from array import array
from collections import deque
from itertools import takewhile
from time import monotonic
from typing import TYPE_CHECKING, Any

import xxhash

from mda_writers.model.encode import frame_metadata_json, to_json
from mda_writers.sinks.journal import frame_line, image_line
from mda_writers.sinks.line_file import LineFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.model.frame import PlacedFrame
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.protocols import FrameArray
    from mda_writers.storage.write_pool import WritePool

LINES_A_WRITE = 64
"""Lines that are gathered while frames come fast; a system call a line would cost 30 000 a
second. With nothing to do the lines leave at once (`flush`)."""


class FrameTable:
    """Writes the journal of a recording.

    Parameters
    ----------
    journal : LineFile
        Where the lines go.
    arrays : mapping
        Key → array, to ask where in its file a frame lies.
    pool : WritePool or None
        Tells what has landed; None when a frame is on disk as soon as its array has taken it.
    sync_ms : float or None
        Every so often, everything is made to survive a power cut before its lines are written.
    """

    def __init__(
        self,
        journal: LineFile,
        arrays: Mapping[str, FrameArray],
        pool: WritePool | None,
        sync_ms: float | None = None,
    ) -> None:
        self._journal = journal
        self._arrays = arrays
        self._pool = pool
        self._sync_s = None if sync_ms is None else sync_ms / 1000
        self._synced = monotonic()
        self._waiting: deque[tuple[int, bool, int, bytes]] = deque()
        self._since_write = 0
        self._keys: dict[str, bytes] = {}
        self._last_time: float | None = None
        self.intervals_s = array("f")
        self.frames_written = 0
        self.frames_left_out = 0
        self.journalled = 0
        self.bytes_written = 0

    def open(self) -> None:
        """Nothing to do: the header is there already."""

    def announce(self, image: ImageLayout, planes: int) -> None:
        """Say that an image was laid out, with room for `planes` planes."""
        self._journal.append(image_line(image, planes))

    def write(self, placed: PlacedFrame) -> None:
        """Prepare the line of a frame; it is written when the frame has landed.

        A frame that is not kept has its line in the order of arrival, too.
        """
        staged = self._pool.staged() if self._pool else 0
        line = frame_line(
            self._key_json(placed.place.key), _metadata(placed), self._additions(placed)
        )
        nbytes = placed.pixels.nbytes if placed.saved else 0
        self._waiting.append((staged, placed.saved, nbytes, line))
        self._note_time(placed.frame.monotonic_s)
        self._since_write += 1
        if self._since_write >= LINES_A_WRITE:
            self._write_landed()

    def flush(self) -> bool:
        """Write the lines of what has landed; True when no line waits any more."""
        self._write_landed()
        return not self._waiting

    def close(self) -> None:
        """Write the lines of all that has landed, and close the journal.

        The arrays are closed before: what has not landed by now never will.
        """
        try:
            if self._waiting:
                self._write_up_to(self._landed())
            self._journal.sync()
        finally:
            self._journal.close()

    def _write_landed(self) -> None:
        self._since_write = 0
        if not self._waiting or not self._is_time():
            return
        if self._pool is not None and self._sync_s is not None:
            self._pool.drain()
        self._write_up_to(self._landed())

    def _write_up_to(self, landed: int) -> None:
        due = list(takewhile(lambda frame: frame[0] <= landed, self._waiting))
        if not due:
            return
        self._journal.append(b"".join(line for _, _, _, line in due))
        self.journalled = due[-1][0]
        for _, saved, nbytes, _ in due:
            self._waiting.popleft()
            self.bytes_written += nbytes
            self.frames_written += saved
            self.frames_left_out += not saved
        if self._sync_s is not None:
            self._journal.sync()

    def _is_time(self) -> bool:
        """Whether lines may be written now; those of synced recordings, every so often."""
        return self._sync_s is None or monotonic() - self._synced >= self._sync_s

    def _landed(self) -> int:
        """Return the pool's number up to which frames are on disk, safely so if that was asked."""
        if self._pool is None:
            return 0
        if self._sync_s is None:
            return self._pool.landed()
        landed = self._pool.secure()
        self._synced = monotonic()
        return landed

    def _additions(self, placed: PlacedFrame) -> bytes:
        entry: dict[str, Any] = {
            "number": placed.number,
            "index": {str(axis): i for axis, i in placed.frame.index.items()},
            "place": placed.place.index,
            **(self._on_disk(placed) if placed.saved else {"saved": False}),
            "unix_time_s": placed.frame.unix_time_s,
            "monotonic_s": placed.frame.monotonic_s,
        }
        return to_json(entry)

    def _on_disk(self, placed: PlacedFrame) -> dict[str, Any]:
        """Return where the pixels lie, and their checksum."""
        where = getattr(self._arrays.get(placed.place.key), "where", None)
        return {
            **(where(placed.place.index) if where else {}),
            "xxh3_64": placed.frame.xxh3_64 or xxhash.xxh3_64_hexdigest(placed.pixels.data),
        }

    def _key_json(self, key: str) -> bytes:
        if key not in self._keys:
            self._keys[key] = to_json(key)
        return self._keys[key]

    def _note_time(self, now: float) -> None:
        if self._last_time is not None:
            self.intervals_s.append(now - self._last_time)
        self._last_time = now


def _metadata(placed: PlacedFrame) -> bytes:
    metadata = placed.frame.metadata
    return metadata if isinstance(metadata, bytes) else frame_metadata_json(metadata)
