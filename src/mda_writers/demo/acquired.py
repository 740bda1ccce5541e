"""What the camera gave: kept, to be compared with what is read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.opening import open_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent


class Acquired:
    """Keeps every frame of a run, to compare with what is read back."""

    def __init__(self, core: CMMCorePlus) -> None:
        self._signal = core.mda.events.frameReady
        self.frames: list[tuple[Mapping[str, int], np.ndarray]] = []

    def __enter__(self) -> Acquired:
        self._signal.connect(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._signal.disconnect(self._keep)

    def _keep(self, frame: np.ndarray, event: MDAEvent, meta: Any) -> None:
        self.frames.append(({str(axis): i for axis, i in event.index.items()}, frame))

    def count_differing(self, path: Path) -> int:
        """Return how many frames of the recording at `path` differ from those acquired."""
        with open_dataset(path) as dataset:
            return sum(
                not np.array_equal(dataset.read_image(**index), frame)
                for index, frame in self.frames
            )
