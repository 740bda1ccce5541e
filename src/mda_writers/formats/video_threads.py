"""The threads that encode a video: the writing thread prepares frames, and appends what is done."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from mda_writers.formats.video_encoder import Encoder

if TYPE_CHECKING:
    from fractions import Fraction

    from mda_writers.formats.video_encoder import Picture

CORES = max(2, min(8, os.cpu_count() or 2))
"""Encoders of one video at most. More would be faster than any camera."""


class EncodingThreads:
    """The encoders of one video, each on a thread of its own.

    Frames that need no others to be shown (MJPG, FFV1) are encoded several at once; those of
    other codecs one after the other, on one thread. All methods belong to the writing thread.

    Parameters
    ----------
    picture : Picture
        What to encode.

    Raises
    ------
    av.FFmpegError
        If this machine cannot.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._most = CORES if picture.codec.intra else 1
        self._first: Encoder | None = Encoder(picture)
        self.header = self._first.header
        self.tick_s = self._first.tick_s
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def encode(self, frame: Any, number: int, time_s: Fraction | float) -> Future[bytes]:
        """Return what will hold the bytes of a frame; the arguments are those of `Encoder`'s."""
        job = _Job(frame, number, time_s)
        waiting = not self._jobs.empty()
        self._jobs.put(job)
        if not self._threads or (waiting and len(self._threads) < self._most):
            self._start_another()
        return job.piece

    def close(self) -> None:
        """Encode what was given, then close the encoders and end their threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        if self._first is not None:
            self._first.close()

    def _start_another(self) -> None:
        encoder, self._first = self._first, None
        # not an executor: those refuse work while the interpreter exits
        thread = threading.Thread(
            target=self._work,
            args=(encoder,),
            name=f"mda-writers-encode-{len(self._threads)}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _work(self, encoder: Encoder | None) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                encoder = encoder or Encoder(self._picture)
                job.piece.set_result(encoder.encode(job.frame, job.number, job.time_s))
            except BaseException as error:
                job.piece.set_exception(error)
            del job  # its pixels are not to wait for the next one
        if encoder is not None:
            encoder.close()


class _Job:
    def __init__(self, frame: Any, number: int, time_s: Fraction | float) -> None:
        self.frame = frame
        self.number = number
        self.time_s = time_s
        self.piece: Future[bytes] = Future()
