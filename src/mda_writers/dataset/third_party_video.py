"""Videos of third parties."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.source import Contents, StaticSource
from mda_writers.formats.video.reader import _open
from mda_writers.model.layout import Channel, ImageLayout, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable


class ThirdPartyVideo(StaticSource):
    """Reads one third-party video: its frames are along t.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    CorruptRecordingError
        If no video can be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _open(path)
        self._lock = threading.Lock()
        image = ImageLayout(
            key="0",
            name=path.stem,
            index={},
            sizes={"t": len(self._reader)},
            frame_shape=self._reader.shape,
            dtype=self._reader.dtype.name,
            channels=(Channel(""),),
            file=path.name,
        )
        interval_s = 1 / self._reader.fps if self._reader.fps else None
        self.contents = Contents(Layout((image,), time_interval_s=interval_s), self._reader.about)

    def read(self, image: ImageLayout, slots: Iterable[int], level: int = 0) -> np.ndarray:
        """Return frames by number."""
        with self._lock:
            return np.stack([self._reader.read(int(slot)) for slot in slots])

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return when the frame is shown."""
        return {"time_s": self._reader.times_s[place[0]]}

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ThirdPartyVideo, (self._path,)
