"""The images of one run: those of the plan, and those that a frame turned out to need."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from mda_writers.errors import FrameError
from mda_writers.model.channels import CameraChannels
from mda_writers.model.layout import AXES, ImageLayout
from mda_writers.model.names import (
    CHANNEL_BYTES,
    MAX_NAME_LENGTH,
    fold,
    room_behind,
    safe_name,
    split_suffix,
    unique_name,
)
from mda_writers.model.plan import ImageIndex, PlannedImage, image_index, image_name
from mda_writers.model.run_image import RunImage, readable
from mda_writers.model.scope import Camera, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mda_writers.model.frame import Frame
    from mda_writers.model.series import FileOf

Slot = tuple[ImageIndex, int | None]
"""What chooses an image: the event's part, and the camera where that has images of its own."""


class RunImages:
    """Every image of a run, each with a key and a file of its own.

    Cameras of equal size lie side by side in an image's c; one of another size has images of its
    own. An event that the plan did not announce gets an image that grows as its frames come.

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
        switched = any(image.cameras for image in planned)
        differ = scope.cameras_differ and not switched
        self._own = set(range(len(scope.cameras))) if differ else set[int]()
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
        """Have `file_of` say where each image lies, instead of in a file of its own."""
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
        beside = camera < len(self._scope.cameras) if shared is None else shared.takes(index)
        return chosen, camera if camera in self._own or not beside else None

    def _plan(self, planned: PlannedImage) -> None:
        if not self._own:
            self._add(planned, None, self._first_camera(planned))
        for number in sorted(self._own):
            self._add(planned, number, self._scope.cameras[number])

    def _first_camera(self, planned: PlannedImage) -> Camera:
        """Return the camera that an image's first frame is to be expected from."""
        known = {camera.label: camera for some in self._scope.devices.values() for camera in some}
        labels = planned.cameras[min(planned.cameras)] if planned.cameras else ("",)
        return known.get(labels[0], self._scope.cameras[0])

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
        known = self._scope.cameras
        return known[camera].label if camera < len(known) else f"Camera-{camera + 1}"

    def _add(
        self, planned: PlannedImage, number: int | None, camera: Camera, *, growing: bool = False
    ) -> RunImage:
        """Add an image for all cameras side by side, or for camera `number` alone."""
        if number is None:
            labels = [self._label(n) for n in range(len(self._scope.cameras))]
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
    """Return what is planned for one of several cameras, which has images of its own."""
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
