"""Frames out of a Zarr array, many at a time where they fill a box."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import CorruptRecordingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def read_box(
    array: Any, axes: Sequence[str], sizes: Mapping[str, int], slots: np.ndarray
) -> np.ndarray:
    """Return frames ``(n, y, x)``.

    Parameters
    ----------
    array : zarr.Array
        Its last two axes are y and x.
    axes : sequence of str
        The array's axes before those.
    sizes : mapping
        The image's axes, in the order in which slots count places.
    slots : np.ndarray
        Which frames.
    """
    if not sizes:
        return np.asarray(array[...]).reshape(len(slots), *array.shape[-2:])
    places = np.stack(np.unravel_index(slots, tuple(sizes.values())), axis=1)
    first, last = places.min(axis=0), places.max(axis=0) + 1
    lengths = tuple(int(n) for n in last - first)
    whole_box = prod(lengths) == len(slots) and bool((np.diff(slots) > 0).all())
    if not whole_box:
        return np.stack(
            [read_box(array, axes, sizes, slots[n : n + 1])[0] for n in range(len(slots))]
        )
    order = list(sizes)
    spans = [slice(int(first[order.index(a)]), int(last[order.index(a)])) for a in axes]
    box = np.asarray(array[tuple(spans)])
    back = [list(axes).index(axis) for axis in order]
    return box.transpose(*back, len(back), len(back) + 1).reshape(len(slots), *box.shape[-2:])


def is_blank(frame: np.ndarray) -> bool:
    """Return whether a frame is nothing but zeros; its first row mostly tells that it is not."""
    return not frame[:1].any() and not frame.any()


def corrupt(path: Path, what: str) -> CorruptRecordingError:
    """Return the error for a file of a Zarr recording that is not as it was written."""
    return CorruptRecordingError(
        f"{path}: not what was recorded ({what}). Copy the folder again if this is a copy; "
        "`mda-writers verify` names every frame that is damaged."
    )
