"""The corridor: every frame's way from the queue through the sinks, on one writing thread.

There is one failure path. Whatever goes wrong in a sink ends the recording: the error is
remembered, the run is cancelled once, the frames that still come are counted and let go, and
everything is closed, so that what was written stays readable.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import FrameError, WriteError
from mda_writers.model.frame import Frame, PlacedFrame
from mda_writers.recording.frame_queue import FrameQueue
from mda_writers.storage.failure import as_write_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mda_writers.model.locate import Locator
    from mda_writers.model.protocols import FrameSink
    from mda_writers.model.selection import FrameSelection

RELEASE_BYTES = 1 << 20
"""Bytes that are taken off the queue's account at once; a lock a frame is dear for small ones."""

LOOK_AGAIN_S = 0.002
"""While pixels are on their way and no frame comes: how often to see whether they have landed."""


class Corridor:
    """One recording in progress.

    Parameters
    ----------
    path : Path
        The recording's main path, for messages.
    locator : Locator
        Gives every frame its place.
    sinks : sequence of FrameSink
        Fed in this order, and closed in this order.
    queue_bytes : int
        Pixels that may wait in memory.
    on_failure : callable
        Called once, on the writing thread, with the error that ended the recording.
    selection : FrameSelection, optional
        Which frames are kept; by default all.
    """

    def __init__(
        self,
        path: Path,
        locator: Locator,
        sinks: Sequence[FrameSink],
        queue_bytes: int,
        on_failure: Callable[[WriteError], None],
        selection: FrameSelection | None = None,
    ) -> None:
        self._path = path
        self._locator = locator
        self._sinks = sinks
        self._on_failure = on_failure
        self._selection = selection
        self._queue = FrameQueue(queue_bytes)
        self._settled = threading.Condition()
        self._taken = 0
        self._settled_up_to = 0
        self._settle_wanted = False
        self.error: WriteError | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"mda-writers {path.name}", daemon=True
        )

    # ------------------------------------------------------------ the caller's threads

    def open(self) -> None:
        """Open the sinks, and start the writing thread.

        Raises
        ------
        WriteError
            If a sink cannot begin; those before it are closed again.
        """
        for number, sink in enumerate(self._sinks):
            try:
                sink.open()
            except BaseException:
                for opened in self._sinks[: number + 1]:
                    self._close_sink(opened)
                raise
        self._thread.start()

    def put(self, frame: Frame, while_waiting: Callable[[], None] | None = None) -> None:
        """Hand over a frame: waits while the queue is full, returns at once after a failure.

        Raises
        ------
        WriteError
            If the recording was ended by another thread.
        """
        if not self._queue.put(frame, while_waiting):
            raise WriteError(
                f"{self._path}: the recording was ended while a frame was handed over. That frame "
                "was not written; end a recording only when nobody adds frames any more."
            )

    def settle(self) -> None:
        """Return when every frame handed over so far is in its file, or the recording failed."""
        with self._settled:
            goal = self.frames_received
            self._settle_wanted = True
            self._settled.wait_for(
                lambda: self.error or self._settled_up_to >= goal or not self._thread.is_alive()
            )
            self._settle_wanted = False

    def close(self) -> None:
        """Drain the queue, close the sinks, end the thread. There is no time-out."""
        self._queue.close()
        if self._thread.ident is not None:
            self._thread.join()

    def fail(self, error: WriteError) -> None:
        """End the recording with `error`; the first one is remembered."""
        if self.error is None:
            self.error = error
            self._queue.close_to_frames()
            self._on_failure(error)
        with self._settled:
            self._settled.notify_all()

    @property
    def frames_received(self) -> int:
        """Frames handed over so far."""
        return self._queue.received

    @property
    def queued_bytes(self) -> int:
        """Bytes of the frames that wait for the writing thread."""
        return self._queue.nbytes

    # ------------------------------------------------------------ the writing thread

    def _run(self) -> None:
        nothing_left = True
        while (frames := self._queue.get_all(None if nothing_left else LOOK_AGAIN_S)) is not None:
            self._write_all(frames)
            # pushing on what is gathered makes small writes: only with nothing better to do
            nothing_left = not frames and self._push_on()
            while self._settle_wanted and not nothing_left:
                time.sleep(LOOK_AGAIN_S)
                nothing_left = self._push_on()
        for sink in self._sinks:
            self._close_sink(sink)
        with self._settled:
            self._settled.notify_all()

    def _write_all(self, frames: deque[Frame]) -> None:
        """Write frames, and let go of each: its memory is another frame's now."""
        written = 0
        while frames:
            frame = frames.popleft()
            self._write(frame)
            written += frame.nbytes
            if written >= RELEASE_BYTES or not frames:
                self._queue.done(written)
                written = 0

    def _write(self, frame: Frame) -> None:
        number, self._taken = self._taken, self._taken + 1
        if self.error is not None:
            return
        try:
            saved = self._selection is None or self._selection.keeps(frame, number)
            if saved and frame.unfit:
                raise FrameError(frame.unfit)
            place = self._locator.locate(frame, saved)
            placed = PlacedFrame(frame, place, _plain(frame.pixels), number, saved)
            for sink in self._sinks:
                sink.write(placed)
        except BaseException as error:
            self.fail(self._explained(error))

    def _push_on(self) -> bool:
        """Let the sinks push on what they hold; True when nothing is left in any of them."""
        if self.error is not None:
            return True
        try:
            nothing_left = False not in [sink.flush() for sink in self._sinks]
        except BaseException as error:
            self.fail(self._explained(error))
            return True
        if nothing_left:
            with self._settled:
                self._settled_up_to = self._taken
                self._settled.notify_all()
        return nothing_left

    def _close_sink(self, sink: FrameSink) -> None:
        try:
            sink.close()
        except BaseException as error:
            self.fail(self._explained(error))

    def _explained(self, error: BaseException) -> WriteError:
        return as_write_error(
            error, self._path, "writing failed", "Frames written before are kept."
        )


def _plain(pixels: np.ndarray) -> np.ndarray:
    """Return `pixels` C-contiguous and little-endian, as files hold them; copied only if not."""
    if pixels.dtype.byteorder == ">" or (pixels.dtype.byteorder == "=" and sys.byteorder == "big"):
        pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    return np.ascontiguousarray(pixels)
