"""Which plane lies in which shard: the geometry of one Zarr array, no files.

A plane is one ``(y, x)`` picture; a colour frame has three of them, side by side along c. A
chunk holds a plane or a tile of one. A shard holds a box of planes, and all of their tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mda_writers.model.layout import ImageLayout

SHARD_BYTES = 512 << 20
"""Bytes of a shard's planes: ten thousand frames of 8 MiB make 157 files."""

SHARD_PLANES = 1024
"""Planes of a shard at most: readers fetch a shard's whole index (16 bytes per chunk) to get at
one of its planes."""

_GROWING_BOX = {"t": 16, "z": 8, "c": 4}
"""The box of a shard where nobody knows along which axis an image will grow."""

NGFF_ORDER = ("t", "c", "z")
"""The order that NGFF demands, whatever the order of acquisition."""


@dataclass(frozen=True)
class Grid:
    """One array: its axes before y and x, and how planes are grouped.

    Attributes
    ----------
    axes : tuple of str
        Of t, c, z those that there are, in NGFF's order.
    order : tuple of str
        The same axes as the planes come, slowest first: so they lie in a shard.
    samples : int
        Planes of one frame: 3 for colour, along c.
    yx : tuple of int
        Size of a plane.
    chunk_yx : tuple of int
        Size of a chunk.
    box : tuple of int
        Planes of a shard along each of `axes`.
    dtype : str
        Pixel type.
    sharded : bool
        Whether there are shards; if not, every chunk is a file or an object.
    """

    axes: tuple[str, ...]
    order: tuple[str, ...]
    samples: int
    yx: tuple[int, int]
    chunk_yx: tuple[int, int]
    box: tuple[int, ...]
    dtype: str
    sharded: bool = True

    @cached_property
    def tiles(self) -> tuple[int, int]:
        """Chunks of a plane along y and x."""
        return _tiles(self.yx, self.chunk_yx)

    @cached_property
    def tiles_a_plane(self) -> int:
        """Chunks of a plane."""
        return prod(self.tiles)

    @cached_property
    def chunk_bytes(self) -> int:
        """Bytes of an uncompressed chunk."""
        return prod(self.chunk_yx) * np.dtype(self.dtype).itemsize

    @cached_property
    def planes_a_shard(self) -> int:
        """Planes that a shard has room for."""
        return prod(self.box)

    @cached_property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of a chunk, all axes."""
        return (*(1 for _ in self.axes), *self.chunk_yx)

    @cached_property
    def shard_shape(self) -> tuple[int, ...]:
        """Shape of a shard, all axes."""
        y, x = (n * m for n, m in zip(self.tiles, self.chunk_yx, strict=True))
        return (*self.box, y, x)

    def shard_of(self, place: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """Return the shard that holds the plane at `place`, and the plane's number in its index."""
        number = 0
        shard = []
        for i, n in zip(place, self.box, strict=True):
            shard.append(i // n)
            number = number * n + i % n
        return tuple(shard), number

    def shards(self, sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Return the shards of an array of these sizes."""
        return product(*(range(-(-n // m)) for n, m in zip(sizes, self.box, strict=True)))

    def inside(self, shard: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the part of the box of `shard` that lies within `sizes`."""
        return tuple(
            min(n, size - i * n) for i, n, size in zip(shard, self.box, sizes, strict=True)
        )

    def ranks(self, inside: tuple[int, ...]) -> np.ndarray:
        """Return the order of the planes within a shard: number in the index → rank, or -1.

        Planes follow one another as they are acquired, so that they leave as large writes.
        """
        named = dict(zip(self.axes, inside, strict=True))
        if "c" in named:
            named["c"] //= self.samples
        shape = [named[axis] for axis in self.order]
        ranks = np.arange(prod(inside)).reshape([*shape, self.samples])
        axes = [self.order.index(axis) for axis in self.axes]
        position = self.axes.index("c") + 1 if "c" in self.axes else len(axes)
        ranks = ranks.transpose([*axes[:position], len(axes), *axes[position:]]).reshape(inside)
        box = np.full(self.box, -1)
        box[tuple(slice(n) for n in inside)] = ranks
        return box.reshape(-1)


def grid_of(
    image: ImageLayout,
    yx: tuple[int, int],
    chunks: Mapping[str, int],
    shards: Mapping[str, int],
    *,
    sharded: bool,
    most_chunks: int = 0,
) -> Grid:
    """Return the grid of one level of an image.

    Parameters
    ----------
    image : ImageLayout
        The image.
    yx : tuple of int
        Size of the level's planes.
    chunks : mapping
        Axis (y, x) → size of a chunk; the whole plane where it says nothing.
    shards : mapping
        Axis (t, c, z) → frames of a shard, instead of the default.
    sharded : bool
        Whether there are shards; if not, every chunk is a file.
    most_chunks : int
        Chunks of a shard, unless `shards` says otherwise; 0 for as many as make a good file.
    """
    samples = image.frame_shape[2] if len(image.frame_shape) == 3 else 1
    order = tuple(image.sizes) if "c" in image.sizes or samples == 1 else (*image.sizes, "c")
    sizes = {"c": 1, **image.sizes}
    box = dict.fromkeys(order, 1)
    chunk_yx = (min(yx[0], chunks.get("y", yx[0])), min(yx[1], chunks.get("x", yx[1])))
    if sharded:
        plane_bytes = yx[0] * yx[1] * samples * np.dtype(image.dtype).itemsize
        most = SHARD_PLANES
        if most_chunks:
            most = max(1, most_chunks // (prod(_tiles(yx, chunk_yx)) * samples))
        room = min(most, max(1, SHARD_BYTES // plane_bytes))
        box |= _growing_box(order, room) if image.growing else _box(order, sizes, room)
        box |= {axis: n for axis, n in shards.items() if axis in box}
        if "c" in box:
            box["c"] *= samples
    axes = tuple(axis for axis in NGFF_ORDER if axis in order)
    planes = tuple(box[axis] for axis in axes)
    return Grid(axes, order, samples, yx, chunk_yx, planes, image.dtype, sharded)


def plane_sizes(image: ImageLayout, grid: Grid) -> tuple[int, ...]:
    """Return the sizes of an array along the axes before y and x."""
    sizes = {"c": 1, **image.sizes}
    sizes["c"] *= grid.samples
    return tuple(sizes[axis] for axis in grid.axes)


def _tiles(yx: tuple[int, int], chunk_yx: tuple[int, int]) -> tuple[int, int]:
    return -(-yx[0] // chunk_yx[0]), -(-yx[1] // chunk_yx[1])


def _box(order: tuple[str, ...], sizes: Mapping[str, int], room: int) -> dict[str, int]:
    """Return a box that fills the fastest axes first, cut into equal parts where they are long."""
    box = {}
    for axis in reversed(order):
        parts = -(-sizes[axis] // max(1, room))
        box[axis] = -(-sizes[axis] // parts)
        room //= box[axis]
    return box


def _growing_box(order: tuple[str, ...], room: int) -> dict[str, int]:
    box = {}
    for axis, most in _GROWING_BOX.items():
        if axis in order:
            box[axis] = max(1, min(most, room))
            room //= box[axis]
    return box
