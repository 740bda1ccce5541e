"""What a recording looks like on disk: its images, their axes, and what a pixel means."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

AXES = ("t", "c", "z")
"""The axes within one image (OME's T, C, Z); every other axis makes images of its own."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an image: an optical configuration seen by one camera.

    `cam` is the camera's number among those that lie side by side for this configuration.
    """

    name: str
    group: str = ""
    camera: str = ""
    cam: int = 0


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """One image of a recording: a position, a grid tile, or a camera of another size.

    Attributes
    ----------
    key : str
        A safe, unique name: in file names, in the sidecar and in ``position_arrays``.
    name : str
        The name that the user gave, unchanged.
    index : dict
        The indices that choose this image within the run, for example ``{"p": 1, "g": 3}``.
    sizes : dict
        Axis → number of planes, slowest first, in the order in which planes lie on disk.
    frame_shape : tuple of int
        ``(y, x)``, or ``(y, x, 3)`` for colour.
    dtype : str
        numpy's name of the pixel type.
    channels : tuple of Channel
        As many as ``sizes["c"]`` (one, where there is no such axis).
    one_of_several : bool
        Whether the recording has, or may get, more images than this one.
    growing : bool
        Whether the number of planes is unknown; `sizes` then tells those seen so far.
    frames_planned : int or None
        How many frames the plan holds for this image; None when unknown.
    position_um : tuple of float or None
        The planned stage position ``(x, y, z)`` of the first plane in µm, as far as the plan
        names it.
    z_step_um : float or None
        Distance of its planes in µm, negative where they go down; None where it is not known, or
        not the same everywhere.
    time_interval_s : float or None
        Planned time between its time points in s; None as above.
    file : str
        The file's or folder's name, relative to the recording's folder.
    files : tuple of str
        Of a finished recording: all of the image's files, where they are not `file` alone.
    """

    key: str
    name: str
    index: dict[str, int]
    sizes: dict[str, int]
    frame_shape: tuple[int, ...]
    dtype: str
    channels: tuple[Channel, ...] = ()
    growing: bool = False
    frames_planned: int | None = None
    position_um: tuple[float | None, float | None, float | None] | None = None
    z_step_um: float | None = None
    time_interval_s: float | None = None
    file: str = ""
    files: tuple[str, ...] = ()
    one_of_several: bool = False

    @property
    def all_files(self) -> tuple[str, ...]:
        """Every file of the image, relative to the recording's folder."""
        return self.files or (self.file,)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return prod(self.frame_shape) * np.dtype(self.dtype).itemsize

    @property
    def planes(self) -> int:
        """Planes in the image's box, planned or not."""
        return prod(self.sizes.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the frames that are planned for this image."""
        planned = self.planes if self.frames_planned is None else self.frames_planned
        return planned * self.frame_bytes

    @property
    def dim_sizes(self) -> dict[str, int]:
        """Every axis with its size, as ``new_array`` takes them (``s`` for colour samples)."""
        return {**self.sizes, **dict(zip("yxs", self.frame_shape, strict=False))}


@dataclass(frozen=True, slots=True)
class Layout:
    """What all images of a recording have in common, and the images.

    Sizes are in µm and seconds; None (or an empty text) where the microscope did not say.
    `z_step_um` and `time_interval_s` are those of all images that have none of their own.
    `selective`: ``save_frame`` leaves frames out, so that room for all of them is not claimed.
    """

    images: tuple[ImageLayout, ...] = ()
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    time_interval_s: float | None = None
    started: str = ""
    cameras: tuple[str, ...] = ()
    bit_depth: int | None = None
    objective: str = ""
    magnification: float | None = None
    axis_order: str = ""
    plate: dict[str, object] = field(default_factory=dict)
    selective: bool = False

    def z_step_of(self, image: ImageLayout) -> float | None:
        """Return the distance of an image's planes in µm; negative where they go down."""
        if image.z_step_um is None and "z" in image.sizes:
            return self.z_step_um
        return image.z_step_um

    def time_interval_of(self, image: ImageLayout) -> float | None:
        """Return the planned time between an image's time points in s."""
        if image.time_interval_s is None and "t" in image.sizes:
            return self.time_interval_s
        return image.time_interval_s

    @property
    def camera_labels(self) -> tuple[str, ...]:
        """The label of every camera that is known, each once."""
        seen = (channel.camera for image in self.images for channel in image.channels)
        return tuple(dict.fromkeys([*self.cameras, *filter(None, seen)]))

    def image(self, key: str) -> ImageLayout:
        """Return the image of that key."""
        for image in self.images:
            if image.key == key:
                return image
        raise KeyError(key)

    @property
    def frames_planned(self) -> int | None:
        """Frames of the whole plan; None when the plan has no known length."""
        planned = [image.frames_planned for image in self.images]
        if not planned or None in planned:
            return None
        return sum(n for n in planned if n is not None)


def common_steps(images: Iterable[ImageLayout]) -> tuple[float | None, float | None]:
    """Return the distance of planes and the time between time points that all images agree on."""
    known = list(images)
    z = {image.z_step_um for image in _with_most(known, "z")}
    t = {image.time_interval_s for image in _with_most(known, "t")}
    return z.pop() if len(z) == 1 else None, t.pop() if len(t) == 1 else None


def _with_most(images: list[ImageLayout], axis: str) -> list[ImageLayout]:
    """Return the images that have several planes along an axis, or those that have it at all."""
    several = [image for image in images if image.sizes.get(axis, 1) > 1]
    return several or [image for image in images if axis in image.sizes]
