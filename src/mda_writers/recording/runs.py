"""Which places of an image hold a frame, and where in the file it lies, in a few numbers.

A run ``[place, slot, count]`` says that `count` places one after the other, counted in the order
of the image's axes, lie in as many slots one after the other. A recording of a million frames is
one run, unless frames are missing or came in an odd order.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BY_PLACE = -2
"""The slot of a frame that lies where its place says, as in formats that are addressed by index."""


def runs_of(
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


def slots_of(sizes: Mapping[str, int], runs: Iterable[Sequence[int]]) -> np.ndarray:
    """Return the slot of every place, in the shape of `sizes`; −1 where there is no frame.

    Raises
    ------
    ValueError
        If the runs do not fit the sizes.
    """
    slots = np.full(prod(sizes.values()), -1, np.int64)
    for place, slot, count in runs:
        if min(place, slot, count) < 0 or place + count > len(slots):
            raise ValueError(f"run {[place, slot, count]} lies outside of {dict(sizes)}")
        slots[place : place + count] = np.arange(slot, slot + count)
    return slots.reshape(tuple(sizes.values()))
