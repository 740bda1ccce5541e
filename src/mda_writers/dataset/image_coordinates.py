"""The list of all frames' coordinates, made as it is read: a million dicts would fill memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mda_writers.recording.runs import FewSlots

if TYPE_CHECKING:
    from mda_writers.dataset.coordinates import Coordinates, Value
    from mda_writers.dataset.sources import FrameSource
    from mda_writers.recording.runs import Slots


class ImageCoordinates(Sequence[dict[str, "Value"]]):
    """The coordinates of the frames that were on disk when it was made.

    Image after image, each in the order of its axes.
    """

    def __init__(self, source: FrameSource, coordinates: Coordinates) -> None:
        self._coordinates = coordinates
        slots = [source.slots(image.key) for image in coordinates.images]
        self._flat = [_filled(each) for each in slots]
        self._shapes = [each.shape for each in slots]
        self._ends = np.cumsum([len(flat) for flat in self._flat])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> dict[str, Value]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Value]]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        image = int(np.searchsorted(self._ends, number, side="right"))
        flat = self._flat[image][number - self._ends[image]]
        place = tuple(int(i) for i in np.unravel_index(flat, self._shapes[image]))
        return self._coordinates.of(self._coordinates.images[image], place)

    def __repr__(self) -> str:
        return f"<coordinates of {len(self)} frames>"


def _filled(slots: Slots) -> np.ndarray:
    return slots.places if isinstance(slots, FewSlots) else np.flatnonzero(slots >= 0)
