"""A frame on its way from the camera to the disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from useq import MDAEvent


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame goes: the image, and the index within it in the order of its axes."""

    key: str
    index: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """A frame that knows its place; what the sinks receive.

    Attributes
    ----------
    frame : Frame
        As it was handed over.
    place : Place
        Where it goes.
    pixels : np.ndarray
        The frame's pixels, C-contiguous and in the machine's byte order.
    number : int
        The frame's number in the recording, in order of arrival, from 0.
    saved : bool
        Whether its pixels are kept; if not (``save_frame``), only its metadata is.
    """

    frame: Frame
    place: Place
    pixels: np.ndarray
    number: int
    saved: bool = True
