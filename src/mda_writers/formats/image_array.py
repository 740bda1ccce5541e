"""An image on disk as numpy sees an array: its shape, its type, and pixels by index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mda_writers.model.layout import ImageLayout

Place = tuple[int, ...]


class ImageArray(ABC):
    """Base of what a recording's frames are written into; it can be looked at meanwhile.

    Attributes
    ----------
    image : ImageLayout
        What it holds. A subclass whose pixels differ from that says sizes, shape and type itself.
    """

    image: ImageLayout

    def __getitem__(self, index: Any) -> np.ndarray:
        sizes = self._sizes_now()
        index = index if isinstance(index, tuple) else (index,)
        leading, within = index[: len(sizes)], index[len(sizes) :]
        chosen = np.asarray(np.arange(prod(sizes)).reshape(sizes)[leading])
        pixels = np.zeros((*chosen.shape, *self._frame_shape), self.dtype)
        places = [
            tuple(map(int, np.unravel_index(number, sizes))) if sizes else ()
            for number in chosen.reshape(-1)
        ]
        self._read(pixels, list(zip(np.ndindex(chosen.shape), places, strict=True)))
        return np.asarray(pixels[(slice(None),) * chosen.ndim + tuple(within)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes; an image that grows tells those so far."""
        return (*self._sizes_now(), *self._frame_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """Pixel type."""
        return np.dtype(self.image.dtype)

    @property
    def _frame_shape(self) -> tuple[int, ...]:
        return tuple(self.image.frame_shape)

    def _sizes_now(self) -> tuple[int, ...]:
        """Return the sizes of the axes before those of a frame."""
        return tuple(self.image.sizes.values())

    @abstractmethod
    def _read(self, pixels: np.ndarray, wanted: list[tuple[Place, Place]]) -> None:
        """Fill in frames: for each its place in `pixels`, and in the image.

        One that did not come stays zero.
        """
