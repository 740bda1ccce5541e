"""Writers that fail and writers that are slow: what a bad disk does, on demand."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from engine import StampedEngine

if TYPE_CHECKING:
    import numpy as np

    from mda_writers.writers.base import MDAWriter


class DoubleError(RuntimeError):
    """A double was told to fail."""


def failing(writer_class: type[MDAWriter], at: int) -> type[MDAWriter]:
    """Return a writer whose array takes `at` frames and then raises."""

    class FailingWriter(writer_class):  # type: ignore[valid-type, misc]
        frames_taken = 0

        def write_frame(self, ary: Any, index: tuple[int, ...], frame: np.ndarray) -> None:
            if self.frames_taken == at:
                raise DoubleError(f"told to fail at frame {at}")
            self.frames_taken += 1
            super().write_frame(ary, index, frame)

    return FailingWriter


def failing_to_begin(writer_class: type[MDAWriter]) -> type[MDAWriter]:
    """Return a writer that cannot make its arrays."""

    class FailingWriter(writer_class):  # type: ignore[valid-type, misc]
        def new_array(self, *_: Any) -> Any:
            raise DoubleError("told to fail")

    return FailingWriter


def slow(writer_class: type[MDAWriter], seconds: float) -> type[MDAWriter]:
    """Return a writer whose disk takes so long for each frame."""

    class SlowWriter(writer_class):  # type: ignore[valid-type, misc]
        def write_frame(self, ary: Any, index: tuple[int, ...], frame: np.ndarray) -> None:
            time.sleep(seconds)
            super().write_frame(ary, index, frame)

    return SlowWriter


class CountingEngine(StampedEngine):
    """Knows how many frames it gave, and how many of them somebody still holds."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.given = 0
        self.alive = 0
        self.most_alive = 0
        self._lock = threading.Lock()

    def _image(self, index: dict[str, int], cam: int) -> Any:
        image = super()._image(index, cam)
        with self._lock:
            self.given += 1
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(image, self._let_go)
        return image

    def _let_go(self) -> None:
        with self._lock:
            self.alive -= 1
