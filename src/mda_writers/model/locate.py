"""Where a frame goes: the only place that knows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import FrameError
from mda_writers.model.frame import Frame, Place
from mda_writers.model.layout import AXES, Channel, ImageLayout
from mda_writers.model.names import fold, safe_name, split_suffix, unique_name
from mda_writers.model.plan import (
    ImageIndex,
    PlannedImage,
    image_index,
    image_name,
    is_open_ended,
    planned_images,
)
from mda_writers.model.scope import Camera, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from useq import MDASequence

    from mda_writers.model.series import FileOf

Slot = tuple[ImageIndex, int | None]
"""What chooses an image: the event's part, and the camera where that has images of its own."""


@dataclass(slots=True)
class _Image:
    """An image, and which of its places the plan holds and which are filled."""

    layout: ImageLayout
    planned: PlannedImage
    cameras: int
    indices: set[tuple[int, ...]] | None
    written: np.ndarray = field(init=False)
    unused: list[str] = field(init=False)
    left_out: np.ndarray = field(init=False)
    count: int = 0

    @property
    def dtype(self) -> np.dtype | None:
        """The frames' dtype; None as long as it is unknown."""
        return _dtype(self.layout.dtype)

    def __post_init__(self) -> None:
        self.written = np.zeros(tuple(self.layout.sizes.values()), bool)
        self.left_out = np.zeros_like(self.written)
        self.unused = [axis for axis in AXES if axis not in self.layout.sizes]

    def written_by(self, camera: int) -> int:
        """Return how many frames of one of several cameras there are."""
        channels = list(self.layout.sizes).index("c")
        return int(
            np.take(
                self.written, range(camera, self.layout.sizes["c"], self.cameras), axis=channels
            ).sum()
        )

    def leave_out(self, camera: int) -> None:
        """Take the places of `camera` out of the plan."""
        if self.layout.frames_planned is None:
            return
        c = list(self.layout.sizes).index("c")
        places = _planned_places(self)
        self.indices = {place for place in places if place[c] % self.cameras != camera}
        self.layout = replace(self.layout, frames_planned=len(self.indices))


class Locator:
    """Gives every frame of one run its place, and keeps count of what was planned.

    Axes t, c and z lie within an image, and cameras of equal size side by side in c
    (``FITC:Camera-1``, ``FITC:Camera-2``). Every other axis of an event's index (p, g, and
    whatever a user adds) makes images of its own; so does a camera of another size. An event
    that the plan did not announce gets an image that grows as its frames come.

    Parameters
    ----------
    planned : list of PlannedImage
        The images known beforehand; empty when nothing is.
    scope : Scope
        The microscope.
    file_name : str
        The recording's own name: the file of its only image, or the stem of their names.
    """

    def __init__(self, planned: list[PlannedImage], scope: Scope, file_name: str) -> None:
        self._scope = scope
        self._file_name = file_name
        # cameras with images of their own; the others lie side by side in c
        self._own = set(range(len(scope.cameras))) if scope.cameras_differ else set[int]()
        self._images: dict[str, _Image] = {}
        self._keys: dict[Slot, str] = {}
        self._taken: set[str] = set()
        self._open_ended = not planned
        self._file_of: FileOf | None = None
        self._alone = len(planned) * max(1, len(self._own)) <= 1
        for image in planned:
            self._plan(image)

    @classmethod
    def of_sequence(cls, sequence: MDASequence, scope: Scope, file_name: str) -> Locator:
        """Return the locator for a run of `sequence`.

        Raises
        ------
        ValueError
            If the sequence is known and holds no events.
        """
        planned = [] if is_open_ended(sequence) else planned_images(sequence)
        return cls(planned, scope, file_name)

    def put_files(self, file_of: FileOf) -> None:
        """Have `file_of` say where each image lies, instead of in a file of its own."""
        self._file_of = file_of
        for image in self._images.values():
            image.layout = replace(image.layout, file=file_of(image.layout.index))

    # ---------------------------------------------------------------- what is known

    @property
    def images(self) -> list[ImageLayout]:
        """The images known so far, with their sizes so far."""
        return [image.layout for image in self._images.values()]

    @property
    def open_ended(self) -> bool:
        """Whether the number of frames is unknown."""
        return self._open_ended

    @property
    def frames_expected(self) -> int | None:
        """Frames that the plan holds; None when it has no known length."""
        if self._open_ended:
            return None
        return sum(image.layout.frames_planned or 0 for image in self._images.values())

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
        return self._keys[self._slot(index)]

    def unwritten(self) -> Iterator[dict[str, int]]:
        """Return the indices of planned places without a frame, image after image."""
        for image in self._images.values():
            if image.layout.frames_planned is None:
                continue
            for place in _planned_places(image):
                if not image.written[place]:
                    yield self._event_index(image, place)

    # ---------------------------------------------------------------- finding the place

    def locate(self, frame: Frame) -> Place:
        """Return where `frame` goes, and count it as written there.

        Raises
        ------
        FrameError
            If its index lies outside the plan, or its shape or dtype differs from the image's.
        """
        key = self._keys.get(self._slot(frame.index))
        image = self._images[key] if key is not None else self._discover(frame)
        layout = image.layout
        if layout.frame_shape != frame.pixels.shape or image.dtype != frame.pixels.dtype:
            image = self._with_other_frames(image, frame)
            layout = image.layout
        place = self._place(image, frame.index)
        try:
            taken = image.written[place]
        except IndexError:
            taken = False
            if not layout.growing:
                raise FrameError(_outside(frame, layout)) from None
        if taken:
            return self._locate_again(frame)
        if layout.growing:
            self._grow(image, place, frame)
        image.written[place] = True
        image.count += 1
        return Place(layout.key, place)

    def keep_only(self, places: Mapping[str, Iterable[tuple[int, ...]]]) -> None:
        """Say which frames did reach the disk, by key; those left out stay what they are."""
        for key, image in self._images.items():
            image.written = image.left_out.copy()
            for place in places.get(key, ()):
                image.written[place] = True

    def leave_out(self, place: Place) -> None:
        """Say that the frame of `place` came and is not kept: it is neither written nor missing.

        The place stays taken: what comes for it again is a repetition.
        """
        self._images[place.key].left_out[place.index] = True

    def written(self, key: str) -> np.ndarray:
        """Return which places of an image are filled, as booleans in the shape of its sizes."""
        image = self._images[key]
        written: np.ndarray = image.written & ~image.left_out
        return written

    # ---------------------------------------------------------------- helpers

    def _slot(self, index: Mapping[str, int]) -> Slot:
        if not self._own and "cam" not in index:
            return image_index(index), None
        camera = index.get("cam", 0)
        own = camera in self._own or camera >= len(self._scope.cameras)
        return image_index(index), camera if own else None

    def _locate_again(self, frame: Frame) -> Place:
        """Return a place for a frame whose own place is filled: in the image of its repetition."""
        times = frame.index.get("repeat", 0) + 1
        return self.locate(replace(frame, index={**frame.index, "repeat": times}))

    def _place(self, image: _Image, index: Mapping[str, int]) -> tuple[int, ...]:
        sizes = image.layout.sizes
        if image.layout.growing and not any(axis in index for axis in AXES):
            # events without an index of their own follow one another in time
            index = {**index, "t": self._count(image, index.get("cam", 0))}
        place = [index.get(axis, 0) for axis in sizes]
        if place and min(place) < 0:
            raise FrameError(f"{image.layout.name}: index {_readable(index)} is negative.")
        outside = [axis for axis in image.unused if index.get(axis, 0)]
        if outside:
            raise FrameError(
                f"{image.layout.name}: a frame at {_readable(index)}, but the plan has no axis "
                f"{', '.join(outside)} here; planned: {sizes}."
            )
        if image.cameras > 1:
            position = list(sizes).index("c")
            camera = index.get("cam", 0)
            place[position] = place[position] * image.cameras + camera
        return tuple(place)

    def _count(self, image: _Image, camera: int) -> int:
        """Return how many frames of that camera the image holds (they lie along t)."""
        return image.count if image.cameras == 1 else image.written_by(camera)

    def _plan(self, planned: PlannedImage) -> None:
        if not self._own:
            self._add(planned, None, self._scope.cameras[0])
        for number in sorted(self._own):
            self._add(planned, number, self._scope.cameras[number])

    def _add(
        self, planned: PlannedImage, number: int | None, camera: Camera, *, growing: bool = False
    ) -> _Image:
        """Add an image for all cameras side by side, or for camera `number` alone."""
        cameras = len(self._scope.cameras) if number is None else 1
        sizes = dict(planned.sizes)
        if cameras > 1:
            sizes["c"] = sizes.get("c", 1) * cameras
        name = planned.name if number is None else f"{planned.name}_{camera.label}"
        key = unique_name(safe_name(name), self._taken)
        self._taken.add(fold(key))
        index = dict(planned.image_index) | ({} if number is None else {"cam": number})
        indices = planned.indices
        if indices is not None and cameras > 1:
            indices = set(_with_cameras(indices, sizes, planned.sizes, cameras))
        layout = ImageLayout(
            key=key,
            name=name,
            index=index,
            sizes=sizes,
            frame_shape=camera.frame_shape or (),
            dtype=camera.dtype or "",
            channels=self._channels(planned.channels, sizes.get("c", 1), number),
            growing=growing,
            frames_planned=None if growing else _count(indices, sizes),
            position_um=planned.position_um,
            file=self._file(key, index),
        )
        image = _Image(layout, planned, cameras, indices)
        self._images[key] = image
        self._keys[(planned.image_index, number)] = key
        return image

    def _file(self, key: str, index: Mapping[str, int]) -> str:
        """Return an image's file: the recording's own name where there is, or may be, only one."""
        if self._file_of is not None:
            return self._file_of(index)
        if self._alone and not self._images:
            return self._file_name
        stem, suffix = split_suffix(self._file_name)
        return f"{stem}_{key}{suffix}"

    def _channels(
        self, names: Mapping[int, tuple[str, str]], count: int, number: int | None
    ) -> tuple[Channel, ...]:
        """Return the channels of an image: each optical one once for every camera in it."""
        cameras = [number] if number is not None else list(range(len(self._scope.cameras)))
        return tuple(
            _channel(*names.get(n // len(cameras), ("", "")), self._label(camera), len(cameras))
            for n in range(count)
            for camera in [cameras[n % len(cameras)]]
        )

    def _label(self, camera: int) -> str:
        known = self._scope.cameras
        return known[camera].label if camera < len(known) else f"Camera-{camera + 1}"

    def _discover(self, frame: Frame) -> _Image:
        """Return an image for a frame that no plan announced."""
        chosen = image_index(frame.index)
        event = frame.event
        planned = PlannedImage(
            image_index=chosen,
            name=image_name(dict(chosen), event.pos_name if event else None),
            sizes=dict.fromkeys(AXES, 1),
            position_um=(event.x_pos, event.y_pos, event.z_pos) if event else None,
        )
        number = self._slot(frame.index)[1]
        return self._add(planned, number, self._camera_like(frame), growing=True)

    def _camera_like(self, frame: Frame) -> Camera:
        label = self._label(frame.index.get("cam", 0))
        return Camera(label, frame.pixels.shape, frame.pixels.dtype.name)

    def _with_other_frames(self, image: _Image, frame: Frame) -> _Image:
        """Take the first frame as the truth about shape and dtype; refuse later changes.

        The summary describes the cameras before the sequence's own setup, and engines of users
        may deliver what they like: what counts is what comes.
        """
        camera = frame.index.get("cam", 0)
        if image.cameras > 1 and camera and not image.written_by(camera):
            return self._give_own_images(camera, frame)
        if image.count:
            raise FrameError(_differs(frame, image.layout))
        image.layout = replace(
            image.layout, frame_shape=frame.pixels.shape, dtype=frame.pixels.dtype.name
        )
        return image

    def _give_own_images(self, camera: int, frame: Frame) -> _Image:
        """Move a camera that turns out to differ from the first out of the shared images."""
        self._own.add(camera)
        for image in [i for i in self._images.values() if i.cameras > 1]:
            image.leave_out(camera)
            growing = image.layout.growing
            self._add(image.planned, camera, self._camera_like(frame), growing=growing)
        return self._images[self._keys[self._slot(frame.index)]]

    def _grow(self, image: _Image, place: tuple[int, ...], frame: Frame) -> None:
        """Make room for `place`, and learn the channel's name from the event."""
        self._learn_channel(image, frame)
        sizes = image.layout.sizes
        grown = tuple(max(n, i + 1) for n, i in zip(sizes.values(), place, strict=True))
        if grown == tuple(sizes.values()):
            return
        if any(n > m for n, m in zip(grown, image.written.shape, strict=True)):
            image.written = _padded(image.written, grown)
            image.left_out = _padded(image.left_out, grown)
        self._resize(image, dict(zip(sizes, grown, strict=True)))

    def _learn_channel(self, image: _Image, frame: Frame) -> None:
        channel = frame.event.channel if frame.event else None
        number = frame.index.get("c")
        if channel is None or number is None or number in image.planned.channels:
            return
        image.planned.channels[number] = (channel.config, channel.group)
        self._resize(image, image.layout.sizes)

    def _resize(self, image: _Image, sizes: dict[str, int]) -> None:
        channels = self._channels(image.planned.channels, sizes["c"], image.layout.index.get("cam"))
        image.layout = replace(image.layout, sizes=sizes, channels=channels)

    def _event_index(self, image: _Image, place: tuple[int, ...]) -> dict[str, int]:
        """Return the index that the event of a place has."""
        index = dict(zip(image.layout.sizes, place, strict=True))
        if image.cameras > 1:
            channel, index["cam"] = divmod(index.pop("c"), image.cameras)
            if "c" in image.planned.sizes:
                index["c"] = channel
        return {**image.layout.index, **index}


@cache
def _dtype(name: str) -> np.dtype | None:
    return np.dtype(name) if name else None


def _count(indices: set[tuple[int, ...]] | None, sizes: Mapping[str, int]) -> int:
    return prod(sizes.values()) if indices is None else len(indices)


def _channel(config: str, group: str, camera: str, cameras: int) -> Channel:
    if cameras == 1:
        return Channel(config, group, camera)
    return Channel(f"{config}:{camera}" if config else camera, group, camera)


def _planned_places(image: _Image) -> Iterator[tuple[int, ...]]:
    if image.indices is not None:
        return iter(sorted(image.indices))
    return product(*(range(n) for n in image.layout.sizes.values()))


def _with_cameras(
    indices: set[tuple[int, ...]],
    sizes: Mapping[str, int],
    planned_sizes: Mapping[str, int],
    cameras: int,
) -> Iterator[tuple[int, ...]]:
    """Return the places of every camera for every planned index."""
    for index in indices:
        named = dict(zip(planned_sizes, index, strict=True))
        for camera in range(cameras):
            place = {**named, "c": named.get("c", 0) * cameras + camera}
            yield tuple(place[axis] for axis in sizes)


def _padded(written: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return `written` with room to spare, so that growing by one costs nothing on average."""
    shape = [n if n <= m else max(n, 2 * m) for n, m in zip(sizes, written.shape, strict=True)]
    room = np.zeros([max(n, m) for n, m in zip(shape, written.shape, strict=True)], bool)
    room[tuple(slice(n) for n in written.shape)] = written
    return room


def _differs(frame: Frame, image: ImageLayout) -> str:
    return (
        f"{image.name}: frame {_readable(frame.index)} is {frame.pixels.shape} "
        f"{frame.pixels.dtype}, the recording holds {image.frame_shape} {image.dtype}. All earlier "
        "frames are kept; record frames of another size or type with a writer of their own."
    )


def _outside(frame: Frame, image: ImageLayout) -> str:
    return (
        f"{image.name}: frame {_readable(frame.index)} lies outside the plan, which has "
        f"{image.sizes}. All earlier frames are kept; run the events as a list if their number "
        "is open."
    )


def _readable(index: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{axis}={i}" for axis, i in index.items()) + ")"
