"""A frame on its way, and ranges of frames of an image."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from useq import MDAEvent


PART_BYTES = 2 << 30
"""Pixels of a block: seconds of work on a fast disk, half a minute over a slow network. It is what
is done again when a worker dies."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was handed over, before anybody decided where it goes.

    Attributes
    ----------
    pixels : np.ndarray
        ``(y, x)`` or ``(y, x, 3)``; shared with other consumers, so never written to.
    index : mapping
        Axis → index, as the event (or the caller of ``add_frame``) gave it.
    metadata : mapping or bytes
        The ``FrameMetaV1`` or the caller's own; bytes are that, encoded as JSON already.
    event : MDAEvent or None
        The event that commanded the frame.
    unix_time_s : float
        Wall clock at the hand-over, in seconds since 1970-01-01T00:00:00Z.
    monotonic_s : float
        A clock that never jumps, at the same moment; its zero is arbitrary.
    xxh3_64 : str
        The checksum of its pixels, where these are on disk already and not at hand.
    unfit : str
        Why its pixels cannot be kept, where that is known at the hand-over.
    """

    pixels: np.ndarray
    index: Mapping[str, int]
    metadata: Mapping[str, Any] | bytes
    event: MDAEvent | None = None
    unix_time_s: float = field(default_factory=time.time)
    monotonic_s: float = field(default_factory=time.perf_counter)
    xxh3_64: str = ""
    unfit: str = ""

    @property
    def camera_label(self) -> str:
        """The camera's label, as far as the frame's metadata say it."""
        metadata = self.metadata
        if isinstance(metadata, bytes):
            metadata = orjson.loads(metadata)
        return str(metadata.get("camera_device") or "")

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.nbytes


# Blocks: where one large recording is cut, so that several workers share it.


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames ``begin`` to ``end`` (not included) of an image, as whoever made it counts them."""

    key: str
    begin: int
    end: int


def blocks_of(key: str, frames: int, frame_bytes: int) -> list[FrameRange]:
    """Cut the frames of an image into blocks."""
    size = max(1, PART_BYTES // max(1, frame_bytes))
    return [FrameRange(key, n, min(n + size, frames)) for n in range(0, frames, size)]


def are_worth_it(nbytes: int) -> bool:
    """Whether files of so many bytes make at least two blocks."""
    return nbytes >= 2 * PART_BYTES
