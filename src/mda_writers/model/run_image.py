"""One image while its run goes on: where in it a frame goes, and which places are filled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import FrameError
from mda_writers.model.layout import AXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mda_writers.model.channels import CameraChannels
    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.plan import PlannedImage


MOST_FLAGS = 1 << 26
"""Places of an image up to which each has its flags in an array: 64 MB, which are touched only
where frames come."""

MOST_CHANNELS = 10_000
"""Channels that an image may have: each is described, in the journal and in the files."""

MOST_PLACES = 1 << 48
"""Places that an image may have: some readers count its bytes in 63 bits."""


@dataclass(slots=True)
class RunImage:
    """An image, and which of its places the plan holds and which are filled.

    Attributes
    ----------
    layout : ImageLayout
        What is known of it so far.
    planned : PlannedImage
        What the plan says about it.
    channels : CameraChannels
        Its channels and cameras, which lie side by side in c.
    indices : set of tuple of int or None
        The planned places; None where they fill the whole box.
    written : np.ndarray
        Which places are taken. May be larger than the sizes: room to grow into.
    left_out : np.ndarray
        At which of them the frame came and is not kept.
    count, kept : int
        How many frames came, and how many of them are kept.
    """

    layout: ImageLayout
    planned: PlannedImage
    channels: CameraChannels
    indices: set[tuple[int, ...]] | None
    learned: dict[tuple[int, int], str] = field(default_factory=dict)
    written: np.ndarray | FarPlaces = field(init=False)
    left_out: np.ndarray | FarPlaces = field(init=False)
    unused: list[str] = field(init=False)
    count: int = 0
    kept: int = 0

    def __post_init__(self) -> None:
        self.written = np.zeros(tuple(self.layout.sizes.values()), bool)
        self.left_out = np.zeros_like(self.written)
        self.unused = [axis for axis in AXES if axis not in self.layout.sizes]

    @property
    def dtype(self) -> np.dtype | None:
        """The frames' dtype; None as long as it is unknown."""
        return _dtype(self.layout.dtype)

    # ---------------------------------------------------------------- where a frame goes

    def place(self, index: Mapping[str, int]) -> tuple[int, ...]:
        """Return where in this image a frame at `index` goes; it may lie outside.

        Raises
        ------
        FrameError
            If the index is negative, or names an axis that the image has not.
        """
        sizes = self.layout.sizes
        if self.layout.growing and not any(axis in index for axis in AXES):
            # events without an index of their own follow one another in time
            index = {**index, "t": self._next_time_point(index.get("cam", 0))}
        place = [index.get(axis, 0) for axis in sizes]
        if place and min(place) < 0:
            raise FrameError(f"{self.layout.name}: index {readable(index)} is negative.")
        outside = [axis for axis in self.unused if index.get(axis, 0)]
        if outside:
            raise FrameError(
                f"{self.layout.name}: a frame at {readable(index)}, but the plan has no axis "
                f"{', '.join(outside)} here; planned: {sizes}."
            )
        if not self.channels.plain:
            c = list(sizes).index("c")
            place[c] = self.channels.place(place[c], index.get("cam", 0))
        return tuple(place)

    def takes(self, index: Mapping[str, int]) -> bool:
        """Whether the camera of a frame at `index` is one of those that take its channel."""
        return self.channels.takes(index.get("c", 0), index.get("cam", 0))

    def event_index(self, place: tuple[int, ...]) -> dict[str, int]:
        """Return the index that the event of a place has: the reverse of `place`."""
        index = dict(zip(self.layout.sizes, place, strict=True))
        if not self.channels.plain:
            channel, camera = self.channels.at(index.pop("c"))
            if "c" in self.planned.sizes:
                index["c"] = channel
            if self.channels.several:
                index["cam"] = camera
        return {**self.layout.index, **index}

    def _next_time_point(self, camera: int) -> int:
        return self.written_by(camera) if self.channels.several else self.count

    # ---------------------------------------------------------------- what is filled

    def written_by(self, camera: int, kept: bool = False) -> int:
        """Return how many frames of one of several cameras came, or are kept."""
        sizes = self.layout.sizes
        channels = self._places_of(camera)
        if isinstance(self.written, FarPlaces):
            c = list(sizes).index("c")
            few = [p for p in self.written if not (kept and self.left_out[p])]
            return sum(place[c] in channels for place in few)
        assert isinstance(self.left_out, np.ndarray)  # the two change together
        came = self.written & ~self.left_out if kept else self.written
        return int(np.take(came, channels, axis=list(sizes).index("c")).sum())

    def _places_of(self, camera: int) -> list[int]:
        """Return the places along c of one of several cameras."""
        return [n for n in range(self.layout.sizes["c"]) if self.channels.at(n)[1] == camera]

    def unwritten(self) -> Iterator[tuple[int, ...]]:
        """Return the planned places without a frame, in order; none where nothing is planned."""
        if self.layout.frames_planned is None:
            return iter(())
        return (place for place in self._planned_places() if not self.written[place])

    def keep_only(self, places: Iterable[tuple[int, ...]]) -> None:
        """Say which frames did reach the disk; those left out stay what they are."""
        self.written = self.left_out.copy()
        for place in places:
            self.written[place] = True

    # ---------------------------------------------------------------- what changes

    def take_shape_of(self, frame: Frame) -> None:
        """Hold frames of the shape and type of `frame` from now on."""
        shape, dtype = frame.pixels.shape, frame.pixels.dtype.name
        self.layout = replace(self.layout, frame_shape=shape, dtype=dtype)

    def drop_camera(self, camera: int) -> None:
        """Take the places of `camera` out of the plan."""
        if self.layout.frames_planned is None:
            return
        c = list(self.layout.sizes).index("c")
        own = set(self._places_of(camera))
        self.indices = {p for p in self._planned_places() if p[c] not in own}
        self.layout = replace(self.layout, frames_planned=len(self.indices))

    def grow(self, place: tuple[int, ...], frame: Frame) -> None:
        """Make room for `place`, and learn the channel's name from the event."""
        self._learn_channel(frame)
        sizes = self.layout.sizes
        grown = tuple(max(n, i + 1) for n, i in zip(sizes.values(), place, strict=True))
        if grown == tuple(sizes.values()):
            return
        if prod(grown) > MOST_PLACES or grown[list(sizes).index("c")] > MOST_CHANNELS:
            raise FrameError(
                f"{self.layout.name}: index {readable(frame.index)} lies too far out: the image "
                f"would have {prod(grown)} places. Every frame before it is kept; count each axis "
                "of an event's index from 0 on."
            )
        if any(n > m for n, m in zip(grown, self.written.shape, strict=True)):
            self.written = _with_room(self.written, grown)
            self.left_out = _with_room(self.left_out, grown)
        self._resize(dict(zip(sizes, grown, strict=True)))

    def _learn_channel(self, frame: Frame) -> None:
        number = frame.index.get("c")
        camera = frame.index.get("cam", 0) if self.channels.several else 0
        if number is None or (number, camera) in self.learned:
            return
        channel = frame.event.channel if frame.event else None
        if channel is not None:
            self.planned.channels.setdefault(number, (channel.config, channel.group))
        label = frame.camera_label or self.channels.label(number, camera)
        self.learned[number, camera] = label
        self._resize(self.layout.sizes)

    def _resize(self, sizes: dict[str, int]) -> None:
        channels = self.channels.named(self.planned.channels, sizes["c"], self.learned)
        self.layout = replace(self.layout, sizes=sizes, channels=channels)

    def _planned_places(self) -> Iterator[tuple[int, ...]]:
        if self.indices is not None:
            return iter(sorted(self.indices))
        return product(*(range(n) for n in self.layout.sizes.values()))


def readable(index: Mapping[str, int]) -> str:
    """Return an index as error messages tell it: ``(t=3, c=1)``."""
    return "(" + ", ".join(f"{axis}={i}" for axis, i in index.items()) + ")"


@cache
def _dtype(name: str) -> np.dtype | None:
    return np.dtype(name) if name else None


class FarPlaces:
    """Flags of places that are few and far between, in an image that grows; no box is too large."""

    def __init__(self, places: Iterable[tuple[int, ...]] = ()) -> None:
        self._places = set(places)
        self.shape = (MOST_PLACES,) * 3

    def __getitem__(self, place: tuple[int, ...]) -> bool:
        return place in self._places

    def __setitem__(self, place: tuple[int, ...], flag: bool) -> None:
        (self._places.add if flag else self._places.discard)(place)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(self._places)

    def copy(self) -> FarPlaces:
        """Return flags of the same places."""
        return FarPlaces(self._places)


def _with_room(flags: np.ndarray | FarPlaces, sizes: tuple[int, ...]) -> np.ndarray | FarPlaces:
    """Return `flags` with room for `sizes`: as an array, as long as that is not too large."""
    if isinstance(flags, FarPlaces):
        return flags
    if prod(sizes) > MOST_FLAGS:
        return FarPlaces(map(tuple, np.argwhere(flags).tolist()))
    return _padded(flags, sizes)


def _padded(written: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return `written` with room to spare, so that growing by one costs nothing on average."""
    shape = [n if n <= m else max(n, 2 * m) for n, m in zip(sizes, written.shape, strict=True)]
    room = np.zeros([max(n, m) for n, m in zip(shape, written.shape, strict=True)], bool)
    room[tuple(slice(n) for n in written.shape)] = written
    return room
