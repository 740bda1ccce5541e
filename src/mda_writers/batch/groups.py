"""Which frames become one when a recording is projected along some axes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mda_writers.batch.parts import Block
    from mda_writers.batch.reading import Place
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout


@dataclass(frozen=True, slots=True)
class Group:
    """Frames of an image that differ only along the axes of a projection.

    Attributes
    ----------
    image : ImageLayout
        Their image.
    places : sequence of tuple
        Where they are, in the order of the axes.
    begin : int
        How many frames the groups before it have.
    """

    image: ImageLayout
    places: Sequence[Place]
    begin: int

    def within(self, block: Block) -> Sequence[Place]:
        """Return those of its places that are in a block of its image."""
        return self.places[max(0, block.begin - self.begin) : max(0, block.end - self.begin)]


def groups_of(dataset: Dataset, axes: str) -> Iterator[Group]:
    """Return the groups of all frames on disk, image after image."""
    source = dataset.source
    for image in source.contents.layout.images:
        kept = [n for n, axis in enumerate(image.sizes) if axis not in axes]
        groups: defaultdict[Place, list[Place]] = defaultdict(list)
        for place in np.argwhere(source.slots(image.key) >= 0):
            groups[tuple(int(place[n]) for n in kept)].append(tuple(map(int, place)))
        begin = 0
        for places in groups.values():
            yield Group(image, places, begin)
            begin += len(places)
