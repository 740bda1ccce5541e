"""Which frames become one when a recording is projected along some axes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.recording.runs import frames_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.batch.parts import Block
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout


@dataclass(frozen=True, slots=True)
class Group:
    """Frames of an image that differ only along the axes of a projection.

    Attributes
    ----------
    image : ImageLayout
        Their image.
    places : np.ndarray
        Where they are, ``(frames, axes)``, in the order of the axes.
    begin : int
        How many frames the groups before it have.
    """

    image: ImageLayout
    places: np.ndarray
    begin: int

    def within(self, block: Block) -> np.ndarray:
        """Return those of its places that are in a block of its image."""
        return self.places[max(0, block.begin - self.begin) : max(0, block.end - self.begin)]


def groups_of(dataset: Dataset, axes: str) -> Iterator[Group]:
    """Return the groups of all frames on disk, image after image."""
    source = dataset.source
    for image in source.contents.layout.images:
        slots = source.slots(image.key)
        kept = [n for n, axis in enumerate(image.sizes) if axis not in axes]
        places = frames_at(slots)
        numbers = np.zeros(len(places), np.int64)
        for n in kept:
            numbers = numbers * slots.shape[n] + places[:, n]
        order = np.argsort(numbers, kind="stable")
        places, numbers = places[order], numbers[order]
        begins = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        for begin, end in pairwise([*begins, len(places)]):
            yield Group(image, places[begin:end], begin)
