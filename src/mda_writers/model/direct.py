"""Direct mode's plan: what `begin` was given, and which index the next frame gets."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import FrameError
from mda_writers.model.layout import AXES, Layout
from mda_writers.model.locate import Locator
from mda_writers.model.microscope import Camera, MicroscopeInfo
from mda_writers.model.plan import PlannedImage, image_index, image_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class DirectPlan:
    """What a camera that is polled will deliver; see ``MDAWriter.begin``."""

    def __init__(
        self,
        width: int,
        height: int,
        is_color: bool | None,
        dtype: Any,
        sizes: Mapping[str, int] | None,
        channels: Sequence[str],
        pixel_size_um: float | None,
        z_step_um: float | None,
        time_interval_s: float | None,
        camera: str,
        color_order: str = "RGB",
    ) -> None:
        for name, value in {"width": width, "height": height, **(sizes or {})}.items():
            if int(value) != value or value < 1:
                raise ValueError(f"begin: {name} must be a whole number from 1 on, not {value!r}.")
        self.frame_yx = (int(height), int(width))
        self.is_color = is_color
        self.dtype = None if dtype is None else _pixel_type(dtype)
        self.sizes = {axis: int(n) for axis, n in (sizes or {}).items()}
        self.channels = tuple(channels)
        self.pixel_size_um = _step("pixel_size_um", pixel_size_um)
        self.z_step_um = _step("z_step_um", z_step_um)
        self.time_interval_s = _step("time_interval_s", time_interval_s)
        self.camera = camera
        self.color_order = color_order
        self._known: tuple[Any, Any] | None = None
        self._next = 0
        self._lock = threading.Lock()

    def locator(self, file_name: str) -> Locator:
        """Return the locator of the frames to come."""
        return Locator(self._planned(), MicroscopeInfo(cameras=(self._camera(),)), file_name)

    def layout(self) -> Layout:
        """Return what is known of the recording."""
        return Layout(
            pixel_size_um=self.pixel_size_um,
            z_step_um=self.z_step_um,
            time_interval_s=self.time_interval_s,
            started=datetime.now(UTC).astimezone().isoformat(),
            cameras=(self.camera,) if self.camera else (),
            axis_order="".join(self.sizes),
        )

    def describe(self) -> dict[str, Any]:
        """Return what `begin` was given, for the journal."""
        return {
            "sizes": self.sizes,
            "channels": self.channels,
            "camera": self.camera,
            "color_order": self.color_order,
        }

    def check(self, frame: np.ndarray, selective: bool = False) -> None:
        """Refuse a frame that does not fit, before it is handed over.

        Where frames are left out (`selective`), what `begin` was not given is that of the first
        frame that is kept.

        Raises
        ------
        FrameError
            Saying what was expected.
        """
        if isinstance(frame, np.ndarray) and (frame.shape, frame.dtype) == self._known:
            return
        if not isinstance(frame, np.ndarray):
            raise FrameError(f"add_frame takes a numpy array, not {type(frame).__name__}.")
        colour = frame.ndim == 3 and frame.shape[2] == 3
        if (
            frame.shape[:2] != self.frame_yx
            or frame.ndim not in (2, 3)
            or (frame.ndim == 3) != colour
        ):
            raise FrameError(
                f"add_frame: the frame is {frame.shape}, the recording was begun for "
                f"{self._expected()}. It was not written; crop or resize it, or begin "
                "another recording."
            )
        if selective and (self.is_color is None or self.dtype is None):
            return  # as the first frame that is kept
        if self.is_color is None:
            self.is_color = colour
        if self.dtype is None:
            self.dtype = frame.dtype.newbyteorder("=")
        if colour != self.is_color or frame.dtype.newbyteorder("=") != self.dtype:
            raise FrameError(
                f"add_frame: the frame is {frame.shape} {frame.dtype}, the recording holds "
                f"{self._expected()} {self.dtype}. It was not written; convert it first."
            )
        self._known = (frame.shape, frame.dtype)

    def index(self, given: Mapping[str, int] | None) -> dict[str, int]:
        """Return `given`, or the index of the next frame in the order of the sizes."""
        if given is not None:
            return {str(axis): int(i) for axis, i in given.items()}
        with self._lock:
            number, self._next = self._next, self._next + 1
        if not self.sizes:
            return {"t": number}
        if number >= (planned := prod(self.sizes.values())):
            raise FrameError(
                f"add_frame: all {planned} frames of the plan {self.sizes} are there already. Call "
                "finish(), or begin() without sizes for a recording of open length."
            )
        found = {}
        for axis, n in reversed(self.sizes.items()):
            number, found[axis] = divmod(number, n)
        return {axis: found[axis] for axis in self.sizes}

    def _planned(self) -> list[PlannedImage]:
        if not self.sizes:
            return []
        outer = {axis: n for axis, n in self.sizes.items() if axis not in AXES}
        inner = {axis: n for axis, n in self.sizes.items() if axis in AXES}
        indices = [dict(zip(outer, i, strict=True)) for i in np.ndindex(tuple(outer.values()))]
        names = {n: (name, "") for n, name in enumerate(self.channels)}
        return [
            PlannedImage(
                image_index(index),
                image_name(index, None),
                inner,
                dict(names),
                z_step_um=self.z_step_um,
                time_interval_s=self.time_interval_s,
            )
            for index in indices
        ]

    def _camera(self) -> Camera:
        if self.is_color is None or self.dtype is None:
            return Camera(self.camera)
        return Camera(self.camera, self.frame_yx + (3,) * self.is_color, self.dtype.name)

    def _expected(self) -> str:
        if self.is_color is None:
            return f"{self.frame_yx} or {(*self.frame_yx, 3)}"
        return str(self.frame_yx + (3,) * self.is_color)


def _pixel_type(dtype: Any) -> np.dtype:
    try:
        pixel_type: np.dtype = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        pixel_type = np.dtype(object)
    if pixel_type.kind not in "biufc":
        raise ValueError(f"begin: dtype is a type of pixels such as 'uint16', not {dtype!r}.")
    return pixel_type


def _step(name: str, value: float | None) -> float | None:
    """Return a size, or None if it is unknown: a microscope that is not calibrated says 0."""
    if not value:
        return None
    if not (isfinite(value) and value > 0):
        raise ValueError(f"begin: {name} must be greater than 0, not {value!r}.")
    return float(value)
