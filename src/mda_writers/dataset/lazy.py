"""Lazy arrays: frames grouped into chunks, so that a million of them are not a million tasks."""

from __future__ import annotations

import uuid
from math import ceil, prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK_BYTES = 64 << 20
"""What a chunk holds. Slices of one are read alone: Dask fuses the slice with the reading."""

MOST_CHUNKS = 10_000
"""A task costs Dask about 0.1 ms and 1 kB; beyond, chunks grow."""


def as_dask(array: Any, frame_axes: int) -> Any:
    """Return `array` (`FrameGrid` or the like) as a lazy Dask array.

    Parameters
    ----------
    array : array-like
        Read when indexed with slices.
    frame_axes : int
        How many of its last axes belong to a frame, which stays whole.
    """
    import dask.array as da
    import numpy as np

    leading, frame = array.shape[:-frame_axes], array.shape[-frame_axes:]
    frame_bytes = max(1, prod(frame) * array.dtype.itemsize)
    return da.from_array(  # type: ignore[no-untyped-call]
        array,
        chunks=(*frames_a_chunk(leading, frame_bytes), *frame),
        name=f"mda-writers-{uuid.uuid4().hex}",
        fancy=False,
        meta=np.empty((0,) * len(array.shape), array.dtype),
    )


def frames_a_chunk(sizes: Sequence[int], frame_bytes: int) -> tuple[int, ...]:
    """Return how many frames of each axis make a chunk: neighbours along the last axes."""
    frames = max(1, CHUNK_BYTES // frame_bytes, ceil(prod(sizes) / MOST_CHUNKS))
    chunks = []
    for n in reversed(sizes):
        chunks.append(max(1, min(n, frames)))
        frames = frames // n if n and frames >= n else 1
    return tuple(reversed(chunks))
