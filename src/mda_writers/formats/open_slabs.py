"""Slabs of planes that are becoming one plane of a smaller level, while frames come.

A slab is the neighbouring planes along z that become one of the next level. Its planes may come in
any order, from several threads; a slab holds their sum, and only the planes that came too early.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.formats.voxel_mean import mean_of, sums_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from mda_writers.model.layout import ImageLayout

OPEN_BYTES = 128 << 20
"""Sums that are held at once: thirty slabs of 2048² pixels in 16 bit."""


class OpenSlabs:
    """The sums of all slabs of a recording that still lack planes, in bounded memory.

    Where there are too many, the one that got no plane for the longest time is given up: whoever
    completes the recording computes it from the level above.

    Parameters
    ----------
    most_bytes : int
        Sums that are held at once.
    """

    def __init__(self, most_bytes: int = OPEN_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes_held = 0
        self._slabs: OrderedDict[Hashable, _Slab] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: Hashable, number: int, planes: int, sums: np.ndarray) -> np.ndarray | None:
        """Add one plane to a slab; return the total when it was the last that lacked.

        Parameters
        ----------
        key : hashable
            Which slab.
        number : int
            The plane's place in it.
        planes : int
            How many it has.
        sums : np.ndarray
            Of the plane; may be changed.
        """
        with self._lock:
            slab = self._slabs.pop(key, None) or _Slab()
            self.bytes_held -= slab.nbytes
            slab.add(number, sums)
            if slab.added == planes:
                return slab.total
            self._slabs[key] = slab
            self.bytes_held += slab.nbytes
            while self.bytes_held > self.most_bytes:
                _, oldest = self._slabs.popitem(last=False)
                self.bytes_held -= oldest.nbytes
            return None


class _Slab:
    """The sum of a slab's planes; always from the first to the last, as floats ask for."""

    def __init__(self) -> None:
        self.total: np.ndarray | None = None
        self.added = 0
        self._early: dict[int, np.ndarray] = {}

    @property
    def nbytes(self) -> int:
        held = [*self._early.values(), *([] if self.total is None else [self.total])]
        return sum(array.nbytes for array in held)

    def add(self, number: int, sums: np.ndarray) -> None:
        self._early[number] = sums
        while self.added in self._early:
            sums = self._early.pop(self.added)
            if self.total is None:
                self.total = sums
            else:
                self.total += sums
            self.added += 1


class ImageSlabs:
    """Makes the planes of an image's smaller levels, each when its slab is complete.

    Parameters
    ----------
    slabs : OpenSlabs
        Holds what is not.
    image : ImageLayout
        The image, which has an axis z.
    depths : sequence of int
        Its planes along z, level by level.
    z_factor : int
        Planes of a slab.
    """

    def __init__(
        self, slabs: OpenSlabs, image: ImageLayout, depths: Sequence[int], z_factor: int
    ) -> None:
        self._slabs = slabs
        self._image = image
        self._depths = depths
        self._z_factor = z_factor
        self.worth_it = image.growing or _sums_at_once(image) <= slabs.most_bytes

    def add(
        self, level: int, place: tuple[int, ...], plane: np.ndarray
    ) -> tuple[tuple[int, ...], np.ndarray] | None:
        """Take in a plane of the level above `level`; on any thread.

        Returns
        -------
        tuple or None
            Place and pixels of a plane of `level`; None while its slab lacks others.
        """
        slab = (*place[:-1], place[-1] // self._z_factor)
        planes = self._z_factor
        if not self._image.growing:  # then nobody knows which slab is the last
            planes = min(planes, self._depths[level - 1] - slab[-1] * self._z_factor)
        sums = sums_of(plane, self._z_factor)
        number = place[-1] % self._z_factor
        total = self._slabs.add((id(self), level, slab), number, planes, sums)
        if total is None:
            return None
        return slab, mean_of(total, planes, self._z_factor, plane.dtype)


def _sums_at_once(image: ImageLayout) -> int:
    """Return the bytes of the sums that lack planes while the faster axes than z go by."""
    axes = list(image.sizes)
    faster = prod(image.sizes[axis] for axis in axes[axes.index("z") + 1 :])
    corner = np.zeros((2, 2), image.dtype)
    # a quarter of the pixels, and the levels below once more a third
    return faster * prod(image.frame_shape) // 3 * sums_of(corner, 1).nbytes
