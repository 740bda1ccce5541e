"""What files from elsewhere have in common: nothing comes any more, and all frames are there."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.sources import Contents

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from mda_writers.dataset.sources import Frame
    from mda_writers.model.layout import ImageLayout


class StaticSource:
    """A `FrameSource` whose slots are the places, counted in the order of the axes."""

    contents = Contents()

    def slots(self, key: str) -> np.ndarray:
        """Return the slot of every place: all are filled."""
        sizes = tuple(self.contents.layout.image(key).sizes.values())
        return np.arange(prod(sizes)).reshape(sizes)

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the full resolution."""
        return [image.frame_shape]

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return nothing: there is no sidecar."""
        return {}

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return every frame, with its place."""
        for image in self.contents.layout.images:
            for place in np.argwhere(self.slots(image.key) >= 0):
                where = tuple(map(int, place))
                yield image.key, {**self.metadata(image, where), "mda_writers": {"place": where}}

    def lost(self, image: ImageLayout) -> Set[tuple[int, ...]]:
        """Return nothing: what is not there has no slot."""
        return frozenset()

    def refresh(self) -> list[Frame]:
        """Nothing comes any more."""
        return []

    def is_live(self) -> bool:
        """Tell that nothing comes any more."""
        return False

    def close(self) -> None:
        """Nothing to let go of."""
