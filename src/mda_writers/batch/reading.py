"""Recordings as streams: ours in the order of acquisition, others image after image."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.batch.parts import blocks_of
from mda_writers.dataset.opening import open_dataset
from mda_writers.errors import WriteError
from mda_writers.model.encode import to_json
from mda_writers.recording.runs import count_frames, frames_at, slots_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mda_writers.batch.parts import Block
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout

BLOCK_BYTES = 64 << 20
"""Bytes of frames read at once from files that are not ours: chunks there may hold many."""

Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plane:
    """One frame on disk: its image, its place there, its pixels, and what is known about it."""

    image: ImageLayout
    place: Place
    pixels: np.ndarray
    metadata: dict[str, Any]


@contextmanager
def opened(path: Path) -> Iterator[Dataset]:
    """Open a recording that nobody writes to any more.

    Raises
    ------
    WriteError
        If it is still being written.
    FileNotFoundError, CorruptRecordingError
        See `open_dataset`.
    """
    with open_dataset(path) as dataset:
        if dataset.is_live():
            raise WriteError(
                f"{path}: still being written. Try again when the recording has ended."
            )
        yield dataset


def planes_of(dataset: Dataset) -> Iterator[Plane]:
    """Return every frame that is on disk, image after image, in the order of its axes.

    Never more than `BLOCK_BYTES` of them are in memory, or one frame.
    """
    for image in dataset.source.contents.layout.images:
        yield from planes_in(dataset, image, 0, None)


def planes_in(dataset: Dataset, image: ImageLayout, begin: int, end: int | None) -> Iterator[Plane]:
    """Return the frames ``begin`` to ``end`` (not included) of those of an image on disk."""
    source = dataset.source
    slots = source.slots(image.key)
    places = frames_at(slots)[begin:end]
    count = max(1, BLOCK_BYTES // max(1, image.frame_bytes))
    for first in range(0, len(places), count):
        block = places[first : first + count]
        pixels = source.read(image, slots_at(slots, block))
        for place, frame in zip(block, pixels, strict=True):
            where = tuple(map(int, place))
            yield Plane(image, where, frame, source.metadata(image, where))


def blocks_in(dataset: Dataset) -> list[Block]:
    """Return the parts of a recording: blocks of the frames on disk of each image."""
    source = dataset.source
    return [
        block
        for image in source.contents.layout.images
        for block in blocks_of(image.key, count_frames(source.slots(image.key)), image.frame_bytes)
    ]


def index_of(image: ImageLayout, place: Iterable[int]) -> dict[str, int]:
    """Return the index of a place: that of its image, and that within it."""
    return {**image.index, **dict(zip(image.sizes, place, strict=True))}


def times_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clock times of a frame as `Frame` takes them; nothing where none are known."""
    ours = metadata.get("mda_writers") or {}
    return {name: ours[name] for name in ("unix_time_s", "monotonic_s") if name in ours}


def own_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return a frame's metadata as JSON, without what was added about its old place."""
    return to_json({name: value for name, value in metadata.items() if name != "mda_writers"})
