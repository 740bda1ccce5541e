"""Which images a recording has: their axes, channels and planes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


AXES = ("t", "c", "z")
"""The axes within one image (OME's T, C, Z); every other axis makes separate images."""

PLANES_DESCRIBED = 10_000
"""Planes of one image up to which each has its times and positions in the file itself. In
OME-XML a plane takes about 200 bytes, which every reader parses when it opens the file: 100 000
would be 20 MB and seconds. Beyond, they are in the sidecar only, which has them in any case."""

_COLORS = (
    ("0000FF", ("dapi", "hoechst", "bfp", "405", "blue")),
    ("00FFFF", ("cfp", "cyan", "445")),
    ("00FF00", ("fitc", "gfp", "488", "alexa488", "green")),
    ("FFFF00", ("yfp", "514", "yellow")),
    ("FF8000", ("cy3", "tritc", "rhodamine", "561", "orange")),
    ("FF0000", ("rfp", "mcherry", "texas", "594", "red")),
    ("FF00FF", ("cy5", "647", "640", "farred", "magenta")),
    ("FFFFFF", ("brightfield", "bright", "bf", "phase", "dic", "trans", "white")),
)
"""Colours by what a channel's name contains."""

_OTHER_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


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
        Whether the number of planes is unknown; `sizes` then has those seen so far.
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
        """Frames of the complete plan; None when the plan has no known length."""
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


@dataclass(frozen=True, slots=True)
class PlaneInfo:
    """What is known about one plane; None where it is not.

    `place` is its index in the order of the image's sizes, `ifd` its number in its file, `file`
    that file's name, and `offset_bytes` where in it the pixels begin, where the format says so.
    Times are in seconds, positions in µm.
    """

    place: tuple[int, ...]
    ifd: int
    delta_t_s: float | None = None
    exposure_s: float | None = None
    position_um: tuple[float | None, float | None, float | None] = (None, None, None)
    file: str = ""
    offset_bytes: int | None = None

    @classmethod
    def from_frame(cls, frame: Mapping[str, Any]) -> PlaneInfo:
        """Return the plane of a frame's entry in the journal.

        The camera's exposure and the stage's position are those of ``FrameMetaV1``; the planned
        position stands in where the stage was not asked, as in hardware-triggered sequences.
        """
        ours = frame["mda_writers"]
        event, actual = _mapping(frame, "mda_event"), _mapping(frame, "position")
        return cls(
            place=tuple(ours["place"]),
            ifd=slot_of(ours, ours["number"]),
            delta_t_s=_divided(frame.get("runner_time_ms"), 1000),
            exposure_s=_divided(frame.get("exposure_ms"), 1000),
            position_um=tuple(  # type: ignore[arg-type]
                _divided(actual.get(axis, event.get(f"{axis}_pos")), 1) for axis in "xyz"
            ),
            file=ours.get("file", ""),
            offset_bytes=ours.get("offset_bytes"),
        )


def slot_of(ours: Mapping[str, Any], default: int) -> int:
    """Return a frame's number in its file: of a TIFF's IFDs, or of a video's frames."""
    return int(ours.get("ifd", ours.get("frame", default)))


def _mapping(frame: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an entry of a frame's metadata, which in direct mode may be anything."""
    entry = frame.get(name)
    return entry if isinstance(entry, dict) else {}


def _divided(value: Any, divisor: int) -> float | None:
    return value / divisor if isinstance(value, int | float) else None


class CameraChannels:
    """Which channel of the events, and which camera, is where along an image's axis c.

    Cameras lie side by side: ``FITC:Camera-1``, ``FITC:Camera-2``, ….

    Parameters
    ----------
    labels : sequence of str
        The cameras that take every channel, where `own` does not say otherwise.
    own : mapping of int to sequence of str
        An event's ``index["c"]`` → the cameras that take this channel, where they differ from
        channel to channel; empty, or complete.
    """

    def __init__(self, labels: Sequence[str], own: Mapping[int, Sequence[str]]) -> None:
        self._labels = labels
        self._own = {c: own[c] for c in sorted(own)}
        ends = list(accumulate(len(cameras) for cameras in self._own.values()))
        self._starts = dict(zip(self._own, [0, *ends], strict=False))
        self._places = [(c, cam) for c, cameras in self._own.items() for cam in range(len(cameras))]
        self.cameras = len(labels)
        self.several = max(map(len, own.values()), default=len(labels)) > 1
        self.plain = not self._own and len(labels) == 1
        """Whether a place along c is simply the event's c."""

    def takes(self, c: int, camera: int) -> bool:
        """Whether camera number `camera` takes channel `c`, as far as channels are known."""
        return camera < len(self._own.get(c, self._labels))

    def place(self, c: int, camera: int) -> int:
        """Return the place of a channel and a camera; it may lie outside of what is known."""
        if self._own:
            return self._starts.get(c, len(self._places)) + camera
        return c * len(self._labels) + camera

    def label(self, c: int, camera: int) -> str:
        """Return what a camera is called as long as its frames did not say it."""
        return self._own.get(c, self._labels)[camera]

    def at(self, place: int) -> tuple[int, int]:
        """Return the channel and the camera of a place: the reverse of `place`."""
        return self._places[place] if self._own else divmod(place, len(self._labels))

    def named(
        self,
        configurations: Mapping[int, tuple[str, str]],
        count: int,
        learned: Mapping[tuple[int, int], str],
    ) -> tuple[Channel, ...]:
        """Return the first `count` channels by name.

        Parameters
        ----------
        configurations : mapping of int to (str, str)
            An event's ``index["c"]`` → the name and the group of what it is taken with, as far
            as they are known.
        count : int
            The size of the image's axis c.
        learned : mapping of (int, int) to str
            Channel and camera → the camera's label, as its frames said.
        """
        return tuple(self._channel(*self.at(n), configurations, learned) for n in range(count))

    def _channel(
        self,
        c: int,
        number: int,
        configurations: Mapping[int, tuple[str, str]],
        learned: Mapping[tuple[int, int], str],
    ) -> Channel:
        config, group = configurations.get(c, ("", ""))
        camera = learned.get((c, number), self.label(c, number))
        if not self.takes(c, 1):
            return Channel(config, group, camera)
        return Channel(f"{config}:{camera}" if config else camera, group, camera, number)


@lru_cache
def by_event_channel(channels: tuple[Channel, ...]) -> list[range]:
    """Return for each channel of the events the places along c that its cameras have."""
    starts = [n for n, channel in enumerate(channels) if channel.cam == 0]
    return [range(n, m) for n, m in zip(starts, [*starts[1:], len(channels)], strict=True)]


def channel_color(name: str, number: int, count: int) -> str:
    """Return the colour of a channel, ``RRGGBB``.

    Parameters
    ----------
    name : str
        The channel's name.
    number, count : int
        Which of how many channels it is, for those whose names say nothing; one alone is white.
    """
    plain = name.lower().replace(" ", "").replace("-", "")
    for color, words in _COLORS:
        if any(word in plain for word in words):
            return color
    return "FFFFFF" if count == 1 else _OTHER_COLORS[number % len(_OTHER_COLORS)]
