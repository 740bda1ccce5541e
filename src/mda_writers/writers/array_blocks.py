"""The planes of an array, block by block: never more of it in memory than a few of its chunks."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 512 << 20
"""Bytes of a block. A chunk that is larger is read in pieces."""


def planes_of(array: Any, leading: int) -> Iterator[tuple[int, np.ndarray]]:
    """Return every plane of `array` with its number, in the order in which they are cheap to get.

    Parameters
    ----------
    array : array-like
        numpy, Dask, zarr or anything with ``shape``, ``dtype`` and slices that numpy understands.
    leading : int
        Number of axes before those of a plane.
    """
    shape = array.shape[:leading]
    plane = array.shape[leading:]
    dtype = np.dtype(array.dtype).newbyteorder("<")
    for block in _blocks(array, shape, prod(plane) * dtype.itemsize):
        # a slice each: what is asked for lies in whole chunks
        pixels = np.ascontiguousarray(np.asarray(array[block]), dtype)
        expected = (*(s.stop - s.start for s in block), *plane)
        if pixels.shape != expected:
            raise ValueError(f"the array gave {pixels.shape} where {expected} was asked for")
        for within in np.ndindex(pixels.shape[:leading]):
            index = tuple(s.start + i for s, i in zip(block, within, strict=True))
            yield _number(index, shape), np.ascontiguousarray(pixels[within])


def _blocks(array: Any, shape: tuple[int, ...], plane_bytes: int) -> Iterator[tuple[slice, ...]]:
    edges = [_edges(n, size) for n, size in zip(shape, _chunks(array, shape), strict=True)]
    for block in product(*edges):
        yield from _pieces(block, max(1, MOST_BYTES // max(1, plane_bytes)))


def _chunks(array: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the chunk sizes along the leading axes: a number, or Dask's tuple of them."""
    # reading a part of a shard costs no more than that part, so that zarr's chunks are the unit
    chunks = getattr(array, "chunks", None)
    if not chunks:
        return [1] * len(shape)
    return list(chunks[: len(shape)])


def _edges(size: int, chunk: Any) -> list[slice]:
    lengths = chunk if isinstance(chunk, tuple) else [chunk] * -(-size // max(1, chunk))
    stops = np.minimum(np.cumsum(lengths, dtype=int), size).tolist()
    return [slice(a, b) for a, b in zip([0, *stops], stops, strict=False) if b > a]


def _pieces(block: tuple[slice, ...], most_planes: int) -> Iterator[tuple[slice, ...]]:
    """Return `block`, cut along its first long axis until each piece is small enough."""
    lengths = [s.stop - s.start for s in block]
    if prod(lengths) <= most_planes:
        yield block
        return
    axis = next(n for n, length in enumerate(lengths) if length > 1)
    middle = block[axis].start + lengths[axis] // 2
    for half in (slice(block[axis].start, middle), slice(middle, block[axis].stop)):
        yield from _pieces((*block[:axis], half, *block[axis + 1 :]), most_planes)


def _number(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    number = 0
    for i, n in zip(index, shape, strict=True):
        number = number * n + i
    return number
