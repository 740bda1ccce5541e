"""The thread boundary: a queue of frames that is bounded by their bytes."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mda_writers.model.frame import Frame


class FrameQueue:
    """Frames between the thread that brings them and the one that writes them.

    Parameters
    ----------
    most_bytes : int
        Pixels that may wait here. A frame larger than that is let in when nothing else waits.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._closed = False
        self._refusing = False
        self._changed = threading.Condition()
        self._idle = False
        self._full = False

        self.received = 0

    @property
    def nbytes(self) -> int:
        """Bytes that wait here or are being written."""
        return self._bytes

    def put(self, frame: Frame, while_waiting: Callable[[], None] | None = None) -> bool:
        """Add a frame; wait while the queue is full. False if it was closed meanwhile.

        Parameters
        ----------
        frame : Frame
            What to add.
        while_waiting : callable, optional
            Called about every 50 ms of the wait.
        """
        nbytes = frame.pixels.nbytes
        with self._changed:
            while (
                self._bytes
                and self._bytes + nbytes > self._most_bytes
                and not (self._refusing or self._closed)
            ):
                self._full = True
                self._changed.wait(0.05)
                if while_waiting is not None:
                    while_waiting()
            if self._closed and not self._refusing:
                return False
            self.received += 1
            if self._refusing:
                return True
            self._frames.append(frame)
            self._bytes += nbytes
            if self._idle:
                self._changed.notify_all()
            return True

    def get_all(self, timeout_s: float | None) -> deque[Frame] | None:
        """Return the frames that wait, in order; none after `timeout_s`; None after the last.

        They count as waiting until `done` is told their bytes.
        """
        with self._changed:
            if not self._frames and not self._closed:
                self._idle = True
                self._changed.wait(timeout_s)
                self._idle = False
            if not self._frames and self._closed:
                return None
            frames, self._frames = self._frames, deque()
            return frames

    def done(self, nbytes: int) -> None:
        """Say that frames of so many bytes need no memory here any more."""
        with self._changed:
            self._bytes -= nbytes
            if self._full:
                self._full = False
                self._changed.notify_all()

    def close_to_frames(self) -> None:
        """Let nobody wait for room any more; frames that still come are counted and let go."""
        with self._changed:
            self._refusing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more: what is here is the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
