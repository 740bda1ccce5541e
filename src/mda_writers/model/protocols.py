"""What can be plugged in: arrays on disk that take frames, and sinks that take everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from mda_writers.model.frame import PlacedFrame


@runtime_checkable
class FrameArray(Protocol):
    """An image on disk: frames go in by index, pixels come out by index.

    ``array[index] = frame`` is called by one thread only. ``array[index]`` may be called by any,
    at any time, also after `close`; a frame that nobody wrote reads as zeros.
    """

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        """Take the frame at `index`; it may still be on its way to the disk on return."""

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return pixels, as numpy would for an array of the image's whole shape."""

    def flush(self) -> None:
        """Send everything on its way; return when the system has it."""

    def close(self) -> None:
        """Flush, and let go of the file."""


class FrameSink(Protocol):
    """Wants every frame of a recording. Fed in order, by one thread."""

    def open(self) -> None:
        """Make ready, before the first frame."""

    def write(self, placed: PlacedFrame) -> None:
        """Take one frame."""

    def flush(self) -> bool:
        """Push on what is held back, without waiting; True when nothing is left."""

    def close(self) -> None:
        """Take in the end; called once, whatever happened before."""


class RecordingWatcher(Protocol):
    """Is told when a writer's recordings begin and end, on whatever thread; must not raise."""

    def begun(self, path: Path) -> None:
        """Take in that the recording at `path` has begun, before its first frame."""

    def ended(self, path: Path) -> None:
        """Take in that it has ended: its files and its report are what they will be."""
