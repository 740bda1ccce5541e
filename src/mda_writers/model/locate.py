"""The only place that knows where a frame goes: its image, and its place there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import FrameError
from mda_writers.model.frame import Frame
from mda_writers.model.layout import AXES, CameraChannels, ImageLayout
from mda_writers.model.microscope import Camera, MicroscopeInfo
from mda_writers.model.names import (
    CHANNEL_BYTES,
    MAX_NAME_LENGTH,
    fold,
    room_behind,
    safe_name,
    split_suffix,
    unique_name,
)
from mda_writers.model.plan import (
    ImageIndex,
    PlannedImage,
    image_index,
    image_name,
    is_open_ended,
    planned_images,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from useq import MDASequence

    from mda_writers.model.names import FileOf


Slot = tuple[ImageIndex, int | None]
"""What chooses an image: the event's part, and the camera where that has separate images."""

MOST_FLAGS = 1 << 26
"""Places of an image up to which each has its flags in an array: 64 MB, which are touched only
where frames come."""

MOST_CHANNELS = 10_000
"""Channels that an image may have: each is described, in the journal and in the files."""

MOST_PLACES = 1 << 48
"""Places that an image may have: some readers count its bytes in 63 bits."""


class Locator:
    """Gives every frame of one run its place, and keeps count of what was planned.

    Axes t, c and z lie within an image, and cameras of equal size side by side in c
    (``FITC:Camera-1``, ``FITC:Camera-2``). Every other axis of an event's index (p, g, and
    whatever a user adds) makes separate images; so does a camera of another size. An event
    that the plan did not announce gets an image that grows as its frames come.

    Parameters
    ----------
    planned : list of PlannedImage
        The images known beforehand; empty when nothing is.
    microscope : MicroscopeInfo
        The microscope.
    file_name : str
        The recording's own name: the file of its only image, or the stem of their names.
    """

    def __init__(
        self, planned: list[PlannedImage], microscope: MicroscopeInfo, file_name: str
    ) -> None:
        self._images = RunImages(planned, microscope, file_name)
        self._open_ended = not planned

    @classmethod
    def of_sequence(
        cls, sequence: MDASequence, microscope: MicroscopeInfo, file_name: str
    ) -> Locator:
        """Return the locator for a run of `sequence`.

        Raises
        ------
        ValueError
            If the sequence is known and holds no events.
        """
        planned = [] if is_open_ended(sequence) else planned_images(sequence, microscope)
        return cls(planned, microscope, file_name)

    def put_files(self, file_of: FileOf) -> None:
        """Have `file_of` say where each image is stored, instead of in a separate file."""
        self._images.put_files(file_of)

    # ---------------------------------------------------------------- finding the place

    def locate(self, frame: Frame, kept: bool = True) -> tuple[ImageLayout, tuple[int, ...]]:
        """Return the image and the place in it where `frame` goes, and count it as written there.

        Of a frame that is not kept the place alone counts, which stays taken: it is neither
        written nor missing, its pixels may be of any shape and type, and what comes for it again
        is a repetition.

        Raises
        ------
        FrameError
            If its index lies outside the plan, or its shape or dtype differs from the image's.
        """
        image = self._images.find(frame.index) or self._images.discover(frame)
        layout = image.layout
        if kept and (layout.frame_shape != frame.pixels.shape or image.dtype != frame.pixels.dtype):
            image = self._images.fitting(image, frame)
            layout = image.layout
        place = image.place(frame.index)
        try:
            taken = image.written[place]
        except IndexError:
            taken = False
            if not layout.growing:
                raise FrameError(_outside(frame, layout)) from None
        if taken:
            return self._locate_again(frame, kept)
        if layout.growing:
            image.grow(place, frame)
        image.written[place] = True
        image.left_out[place] = not kept
        image.count += 1
        image.kept += kept
        return image.layout, place

    def _locate_again(self, frame: Frame, kept: bool) -> tuple[ImageLayout, tuple[int, ...]]:
        """Return a place for a frame whose own place is filled: in the image of its repetition."""
        times = frame.index.get("repeat", 0) + 1
        return self.locate(replace(frame, index={**frame.index, "repeat": times}), kept)

    def keep_only(self, places: Mapping[str, Iterable[tuple[int, ...]]]) -> None:
        """Say which frames did reach the disk, by key; those left out stay what they are."""
        for image in self._images:
            image.keep_only(places.get(image.layout.key, ()))

    # ---------------------------------------------------------------- what is known

    @property
    def images(self) -> list[ImageLayout]:
        """The images known so far, with their sizes so far."""
        return [image.layout for image in self._images]

    @property
    def open_ended(self) -> bool:
        """Whether the number of frames is unknown."""
        return self._open_ended

    @property
    def frames_expected(self) -> int | None:
        """Frames that the plan holds; None when it has no known length."""
        if self._open_ended:
            return None
        return sum(image.frames_planned or 0 for image in self.images)

    def image(self, key: str) -> ImageLayout:
        """Return the image of that key."""
        return self._images[key].layout

    def key_of(self, index: Mapping[str, int]) -> str:
        """Return the key of the image that a frame at `index` belongs to.

        Raises
        ------
        KeyError
            If no such image is known.
        """
        image = self._images.find(index)
        if image is None:
            raise KeyError(readable(index))
        return image.layout.key

    def unwritten(self) -> Iterator[dict[str, int]]:
        """Return the indices of planned places without a frame, image after image."""
        for image in self._images:
            yield from map(image.event_index, image.unwritten())


def _outside(frame: Frame, image: ImageLayout) -> str:
    return (
        f"{image.name}: frame {readable(frame.index)} lies outside the plan, which has "
        f"{image.sizes}. All earlier frames are kept; run the events as a list if their number "
        "is open."
    )


class RunImages:
    """Every image of a run, each with its key and its file.

    Cameras of equal size lie side by side in an image's c; one of another size has images of its
    own. An event that the plan did not announce gets an image that grows as its frames come.

    Parameters
    ----------
    planned : list of PlannedImage
        The images known beforehand; empty when nothing is.
    microscope : MicroscopeInfo
        The microscope.
    file_name : str
        The recording's own name: the file of its only image, or the stem of their names.
    """

    def __init__(
        self, planned: list[PlannedImage], microscope: MicroscopeInfo, file_name: str
    ) -> None:
        self._microscope = microscope
        self._file_name = file_name
        # cameras with images of their own; the others lie side by side in c
        switched = any(image.cameras for image in planned)
        differ = microscope.cameras_differ and not switched
        self._own = set(range(len(microscope.cameras))) if differ else set[int]()
        self._by_key: dict[str, RunImage] = {}
        self._by_slot: dict[Slot, RunImage] = {}
        self._taken: set[str] = set()
        self._file_of: FileOf | None = None
        self._alone = len(planned) * max(1, len(self._own)) <= 1
        for image in planned:
            self._plan(image)

    def __iter__(self) -> Iterator[RunImage]:
        return iter(list(self._by_key.values()))  # a list: frames may add to them meanwhile

    def __getitem__(self, key: str) -> RunImage:
        return self._by_key[key]

    def find(self, index: Mapping[str, int]) -> RunImage | None:
        """Return the image that a frame at `index` belongs to; None if there is none yet."""
        if not self._own and "cam" not in index:
            return self._by_slot.get((image_index(index), None))
        return self._by_slot.get(self._slot(index))

    def put_files(self, file_of: FileOf) -> None:
        """Have `file_of` say where each image is stored, instead of in a separate file."""
        self._file_of = file_of
        for image in self:
            image.layout = replace(image.layout, file=file_of(image.layout.index))

    def discover(self, frame: Frame) -> RunImage:
        """Return an image for a frame that no plan announced."""
        chosen, number = self._slot(frame.index)
        event = frame.event
        planned = PlannedImage(
            image_index=chosen,
            name=image_name(dict(chosen), event.pos_name if event else None),
            sizes=dict.fromkeys(AXES, 1),
            position_um=(event.x_pos, event.y_pos, event.z_pos) if event else None,
        )
        return self._add(planned, number, self._camera_like(frame), growing=True)

    def fitting(self, image: RunImage, frame: Frame) -> RunImage:
        """Return `image`, or the one instead of it that holds frames like this one.

        The first frame is taken as the truth about shape and type: the summary describes the
        cameras before the sequence's own setup, and engines of users may deliver what they like.

        Raises
        ------
        FrameError
            If the image holds frames of another shape or type already.
        """
        camera = frame.index.get("cam", 0)
        if image.channels.several and camera and not image.written_by(camera, kept=True):
            return self._give_own_images(camera, frame)
        if image.kept:
            raise FrameError(_differs(frame, image.layout))
        image.take_shape_of(frame)
        return image

    # ---------------------------------------------------------------- helpers

    def _slot(self, index: Mapping[str, int]) -> Slot:
        if not self._own and "cam" not in index:
            return image_index(index), None
        chosen, camera = image_index(index), index.get("cam", 0)
        shared = self._by_slot.get((chosen, None))
        beside = camera < len(self._microscope.cameras) if shared is None else shared.takes(index)
        return chosen, camera if camera in self._own or not beside else None

    def _plan(self, planned: PlannedImage) -> None:
        if not self._own:
            self._add(planned, None, self._first_camera(planned))
        for number in sorted(self._own):
            self._add(planned, number, self._microscope.cameras[number])

    def _first_camera(self, planned: PlannedImage) -> Camera:
        """Return the camera that an image's first frame is to be expected from."""
        known = {
            camera.label: camera for some in self._microscope.devices.values() for camera in some
        }
        labels = planned.cameras[min(planned.cameras)] if planned.cameras else ("",)
        return known.get(labels[0], self._microscope.cameras[0])

    def _give_own_images(self, camera: int, frame: Frame) -> RunImage:
        """Move a camera that turns out to differ from the first out of the shared images."""
        self._own.add(camera)
        for image in [image for image in self if image.channels.several]:
            image.drop_camera(camera)
            # a copy: each image learns the names of its channels by itself
            planned = replace(image.planned, channels=dict(image.planned.channels))
            growing = image.layout.growing
            self._add(planned, camera, self._camera_like(frame), growing=growing)
        return self._by_slot[self._slot(frame.index)]

    def _camera_like(self, frame: Frame) -> Camera:
        label = frame.camera_label or self._label(frame.index.get("cam", 0))
        return Camera(label, frame.pixels.shape, frame.pixels.dtype.name)

    def _label(self, camera: int) -> str:
        known = self._microscope.cameras
        return known[camera].label if camera < len(known) else f"Camera-{camera + 1}"

    def _add(
        self, planned: PlannedImage, number: int | None, camera: Camera, *, growing: bool = False
    ) -> RunImage:
        """Add an image for all cameras side by side, or for camera `number` alone."""
        if number is None:
            labels = [self._label(n) for n in range(len(self._microscope.cameras))]
            channels = CameraChannels(labels, planned.cameras)
        else:
            planned = of_camera(planned, number)
            channels = CameraChannels([camera.label], {})
        sizes, indices = side_by_side(planned, channels)
        name = planned.name if number is None else f"{planned.name}_{camera.label}"
        room = room_behind(*split_suffix(self._file_name)) - CHANNEL_BYTES
        room = min(2 * MAX_NAME_LENGTH, max(1, room))
        key = unique_name(safe_name(name, max_bytes=room), self._taken)
        index = dict(planned.image_index) | ({} if number is None else {"cam": number})
        layout = ImageLayout(
            key=key,
            name=name,
            index=index,
            sizes=sizes,
            frame_shape=camera.frame_shape or (),
            dtype=camera.dtype or "",
            channels=channels.named(planned.channels, sizes.get("c", 1), {}),
            growing=growing,
            frames_planned=None if growing else _count(indices, sizes),
            position_um=planned.position_um,
            z_step_um=planned.z_step_um,
            time_interval_s=planned.time_interval_s,
            file=self._file(key, index),
            # events without a plan that name a position may name others
            one_of_several=not (self._alone and not self._by_key) or (growing and bool(index)),
        )
        image = RunImage(layout, planned, channels, indices)
        self._taken.add(fold(key))
        self._by_key[key] = self._by_slot[(planned.image_index, number)] = image
        return image

    def _file(self, key: str, index: Mapping[str, int]) -> str:
        """Return an image's file: the recording's own name where there is, or may be, only one."""
        if self._file_of is not None:
            return self._file_of(index)
        if self._alone and not self._by_key:
            return self._file_name
        stem, suffix = split_suffix(self._file_name)
        return f"{stem}_{key}{suffix}"


def of_camera(planned: PlannedImage, number: int) -> PlannedImage:
    """Return what is planned for one of several cameras, which has separate images."""
    if not planned.cameras:
        return planned
    indices = planned.indices
    if indices is not None:
        indices = {index[:-1] for index in indices if index[-1] == number}
    return replace(planned, cameras={}, indices=indices)


def side_by_side(
    planned: PlannedImage, channels: CameraChannels
) -> tuple[dict[str, int], set[tuple[int, ...]] | None]:
    """Return the sizes and the planned places of an image, with its cameras side by side in c."""
    if channels.plain:
        return dict(planned.sizes), planned.indices
    count = channels.place(planned.sizes.get("c", 1), 0)
    sizes = {**planned.sizes, "c": count}
    if planned.indices is None:
        return sizes, None
    axes = list(planned.sizes)
    places = set()
    for index in planned.indices:
        at = dict(zip(axes, index, strict=False))
        c = at.get("c", 0)
        numbers = [index[-1]] if planned.cameras else range(channels.cameras)
        places |= {
            tuple({**at, "c": channels.place(c, number)}[axis] for axis in sizes)
            for number in numbers
        }
    return sizes, None if len(places) == prod(sizes.values()) else places


def _count(indices: set[tuple[int, ...]] | None, sizes: Mapping[str, int]) -> int:
    return prod(sizes.values()) if indices is None else len(indices)


def _differs(frame: Frame, image: ImageLayout) -> str:
    return (
        f"{image.name}: frame {readable(frame.index)} is {frame.pixels.shape} "
        f"{frame.pixels.dtype}, the recording holds {image.frame_shape} {image.dtype}. All earlier "
        "frames are kept. Give frames of each size and type a writer of their own, with a "
        "save_frame that leaves out the others: lambda event, metadata: event.index['c'] == 0."
    )


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
        The planned places; None where they fill the complete box.
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
    """Return an index as error messages show it: ``(t=3, c=1)``."""
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
