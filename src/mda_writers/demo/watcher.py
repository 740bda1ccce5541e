"""Somebody who looks at a recording while it is being made."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.opening import open_dataset

if TYPE_CHECKING:
    from mda_writers.writers.mda_writer import MDAWriter

LOOK_AGAIN_S = 0.005


class Watcher:
    """Reads each frame of a recording as soon as it is on disk, on a thread of its own.

    A context manager: at its end the recording has ended, and all of it was seen.

    Attributes
    ----------
    seen : int
        Frames that were read.
    blank : int
        Those of them that held nothing but zeros, which the demo's camera never gives.
    """

    def __init__(self, writer: MDAWriter) -> None:
        self._writer = writer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="demo-watcher")
        self.seen = 0
        self.blank = 0

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._writer.frames_written:
            if self._over.wait(LOOK_AGAIN_S):
                return
        with open_dataset(self._writer) as dataset:
            coords: Any
            for coords in dataset.follow():
                self.seen += 1
                self.blank += not np.any(dataset.read_image(**coords))
