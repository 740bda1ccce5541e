"""Which places of an image hold a frame, and where in the file it is stored, in a few numbers.

A run ``[place, slot, count]`` says that `count` places one after the other, counted in the order
of the image's axes, lie in as many slots one after the other. A recording of a million frames is
one run, unless frames are missing or came in an odd order.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BY_PLACE = -2
"""The slot of a frame in formats that are addressed by index: its place says where it is."""


def run_lengths(
    sizes: Mapping[str, int], places: Sequence[tuple[int, ...]], slots: Sequence[int]
) -> list[list[int]]:
    """Return the runs of frames at `places` of an image that lie in `slots` (or `BY_PLACE`)."""
    indices = np.array(places, np.int64).reshape(len(places), len(sizes))
    strides = [prod(list(sizes.values())[n + 1 :]) for n in range(len(sizes))]
    flat = indices @ np.array(strides, np.int64) if sizes else np.zeros(len(places), np.int64)
    given = np.array(slots, np.int64)
    order = np.argsort(flat, kind="stable")
    pairs = np.stack([flat, np.where(given == BY_PLACE, flat, given)])[:, order]
    starts = np.flatnonzero((np.diff(pairs, prepend=-2) != 1).any(axis=0))
    counts = np.diff(starts, append=len(order))
    return [[int(p), int(s), int(n)] for (p, s), n in zip(pairs[:, starts].T, counts, strict=True)]


class FewSlots:
    """The slots of an image that is empty for the most part: of its frames alone.

    Parameters
    ----------
    shape : tuple of int
        The sizes of the image.
    places : array
        The numbers of the places that hold a frame, counted in the order of the axes, ascending.
    slots : array
        Their slots.
    """

    def __init__(self, shape: tuple[int, ...], places: np.ndarray, slots: np.ndarray) -> None:
        self.shape = shape
        self.places = places
        self.slots = slots

    def __getitem__(self, place: tuple[int, ...]) -> int:
        """Return the slot of one place; −1 where there is no frame."""
        return int(self._found(np.array(np.ravel_multi_index(place, self.shape))))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the slots at some places, a row each."""
        found: np.ndarray = self._found(np.ravel_multi_index(tuple(places.T), self.shape))
        return found

    def indices(self) -> np.ndarray:
        """Return the index of each place that holds a frame, a row each."""
        return np.stack(np.unravel_index(self.places, self.shape), axis=-1)

    def box(self, indices: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the slots at some indices along every axis; −1 outside."""
        flat, inside = np.zeros((), np.int64), np.ones((), bool)
        for size, along in zip(self.shape, indices, strict=True):
            wanted = np.array(along, np.int64)
            flat = flat[..., None] * size + wanted
            inside = inside[..., None] & (wanted >= 0) & (wanted < size)
        return np.where(inside, self._found(flat), -1)

    def _found(self, flat: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self.places, flat), len(self.places) - 1)
        return np.where(self.places[at] == flat, self.slots[at], -1)


Slots = np.ndarray | FewSlots
"""The slot of every place of an image; negative where there is no frame."""

DENSE_PLACES = 1 << 22
"""Places up to which an image's slots are an array, however few frames there are: 32 MB."""


MOST_PLACES = 1 << 28
"""Places that are ever held as an array, if nearly all are empty: 2 GB."""


def is_sparse(places: int, frames: int) -> bool:
    """Whether an array of all places would be large, and empty for the most part."""
    return places > max(DENSE_PLACES, 16 * frames)


def frames_at(slots: Slots) -> np.ndarray:
    """Return the index of every place that holds a frame, a row each, in the order of the axes."""
    return slots.indices() if isinstance(slots, FewSlots) else np.argwhere(slots >= 0)


def count_frames(slots: Slots) -> int:
    """Return how many places hold a frame."""
    return len(slots.places) if isinstance(slots, FewSlots) else int((slots >= 0).sum())


def dense(slots: Slots) -> np.ndarray:
    """Return slots as an array.

    Raises
    ------
    ValueError
        If it would fill the memory with places that are empty.
    """
    if not isinstance(slots, FewSlots):
        return slots
    if prod(slots.shape) > MOST_PLACES:
        raise ValueError(
            f"{len(slots.places)} frames in a box of {slots.shape}: too few and far between for "
            "what was asked. Read them by their coordinates."
        )
    filled = np.full(prod(slots.shape), -1, np.int64)
    filled[slots.places] = slots.slots
    return filled.reshape(slots.shape)


def slots_at(slots: Slots, places: np.ndarray) -> np.ndarray:
    """Return the slots at some places, a row each."""
    if isinstance(slots, FewSlots):
        return slots.at(places)
    found: np.ndarray = slots[tuple(places.T)].reshape(len(places))
    return found


def slots_of(sizes: Mapping[str, int], runs: Sequence[Sequence[int]]) -> Slots:
    """Return the slot of every place, in the shape of `sizes`; −1 where there is no frame.

    Raises
    ------
    ValueError
        If the runs do not fit the sizes.
    """
    places = prod(sizes.values())
    for place, slot, count in runs:
        if min(place, slot, count) < 0 or place + count > places:
            raise ValueError(f"run {[place, slot, count]} lies outside of {dict(sizes)}")
    if is_sparse(places, sum(count for _, _, count in runs)):
        return _few_slots(tuple(sizes.values()), runs)
    slots = np.full(places, -1, np.int64)
    for place, slot, count in runs:
        slots[place : place + count] = np.arange(slot, slot + count)
    return slots.reshape(tuple(sizes.values()))


def _few_slots(shape: tuple[int, ...], runs: Sequence[Sequence[int]]) -> FewSlots:
    places = [np.arange(place, place + count) for place, _, count in runs]
    slots = [np.arange(slot, slot + count) for _, slot, count in runs]
    order = np.argsort(np.concatenate(places))
    return FewSlots(shape, np.concatenate(places)[order], np.concatenate(slots)[order])
