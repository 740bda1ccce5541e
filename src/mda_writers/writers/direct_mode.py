"""Direct mode: for cameras that have a loop of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from mda_writers.errors import FrameError, WriteError, options_checked
from mda_writers.model.encode import to_json
from mda_writers.model.frame import Frame
from mda_writers.storage.write_pool import SMALL_COPY_BYTES
from mda_writers.writers.direct import DirectPlan
from mda_writers.writers.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mda_writers.model.report import RecordingReport


ColorOrder = Literal["RGB", "BGR"]

_RECEIVED = "TimeReceivedByCore"


class DirectMode(Outcome):
    """``begin``, ``add_frame``, ``finish``."""

    default_color_order: ClassVar[ColorOrder] = "RGB"
    takes_bgr: ClassVar[bool] = False
    """Whether its format turns BGR into RGB by itself."""

    _color_order: ColorOrder | None = None

    @options_checked("begin")
    def begin(
        self,
        width: int,
        height: int,
        is_color: bool | None = None,
        *,
        dtype: Any = None,
        sizes: Mapping[str, int] | None = None,
        channels: Sequence[str] = (),
        pixel_size_um: float | None = None,
        z_step_um: float | None = None,
        time_interval_s: float | None = None,
        camera: str = "",
        color_order: ColorOrder | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a recording of a camera that has a loop of its own.

        Parameters
        ----------
        width, height : int
            Of the frames, in pixels.
        is_color : bool, optional
            Whether frames are ``(height, width, 3)``; by default as the first one.
        dtype : dtype, optional
            Pixel type; by default that of the first frame.
        sizes : mapping, optional
            Axis → number of frames, slowest first (``{"t": 100, "c": 2}``). Without it the
            recording grows along t as long as frames come.
        channels : sequence of str
            Names along axis c.
        pixel_size_um, z_step_um, time_interval_s : float, optional
            Size of a pixel and distance of planes in µm, time between time points in s; 0 is
            taken for unknown.
        camera : str
            The camera's name.
        color_order : "RGB" or "BGR", optional
            Order of the colours in the frames: ``cv2.VideoCapture`` gives BGR, almost everything
            else RGB. By default, `CV2Writer` takes BGR, as ``cv2.VideoWriter`` does, and every
            other writer RGB, as ``tifffile.imwrite`` does. Files hold RGB whatever was given.
        metadata : mapping, optional
            About the recording as a whole; kept beside it.

        Raises
        ------
        ValueError
            If a number makes no sense.
        WriteError
            If the recording cannot begin, or another one is open.
        """
        if self._run is not None and not self._run.finished:
            raise WriteError(f"{self._run.path}: still open. Call finish() before begin().")
        direct = DirectPlan(
            width,
            height,
            is_color,
            dtype,
            sizes,
            channels,
            pixel_size_um,
            z_step_um,
            time_interval_s,
            camera,
            color_order_of(color_order or self._color_order or self.default_color_order),
        )
        self._refused = None
        self.current_sequence = None
        try:
            locator = direct.locator(self._next_path().name)
        except (MemoryError, OverflowError) as error:
            raise WriteError(
                f"{self.path}: a plan of {direct.sizes} does not fit into memory. Begin without "
                "sizes, for a recording that grows as long as frames come."
            ) from error
        header = {"direct": direct.describe(), "summary_metadata": dict(metadata or {})}
        self._direct = direct
        self._begin_run(locator, direct.layout(), header)

    def add_frame(
        self,
        frame: np.ndarray,
        *,
        index: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp_s: float | None = None,
    ) -> None:
        """Add one frame; waits while ``queue_bytes`` are full.

        The frame is copied, so that the camera may fill its buffer again at once.

        Parameters
        ----------
        frame : np.ndarray
            ``(height, width)`` or ``(height, width, 3)``.
        index : mapping, optional
            Axis → index; by default the next one in the order of the sizes given to `begin`.
        metadata : mapping, optional
            The frame's own; written as it is now. Unless it says so itself, it gets the time at
            which the frame was added, as Micro-Manager has it: ``TimeReceivedByCore`` in
            ``camera_metadata``.
        timestamp_s : float, optional
            The camera's own time of the frame, in seconds; kept as ``timestamp_s``.

        Raises
        ------
        FrameError
            If the frame's shape or dtype is not the recording's. The recording goes on. With
            ``save_frame``, which may leave the frame out, such a frame that is kept ends it.
        WriteError
            If no recording is open, or it failed: what the disk said is told here.
        """
        run, direct = self._run, self._direct
        if run is None or direct is None or run.finished:
            raise WriteError(f"{self.path}: no recording is open. Call begin() first.")
        if run.failure is not None:
            raise run.failure
        unfit = self._refusal(direct, frame)
        now = time.time()
        swapped = direct.color_order == "BGR" and not (self.takes_bgr or unfit)
        run.put(
            Frame(
                pixels=_copied(frame, swapped),
                index=direct.index(index),
                metadata=_frame_metadata(metadata, timestamp_s, now),
                unix_time_s=now,
                unfit=unfit,
            )
        )

    def _refusal(self, direct: DirectPlan, frame: np.ndarray) -> str:
        """Refuse a frame that does not fit; with ``save_frame``, return why it cannot be kept."""
        selective = self._selection is not None
        try:
            direct.check(frame, selective)
        except FrameError as error:
            if not (selective and isinstance(frame, np.ndarray)):
                raise
            return str(error)
        return ""

    def finish(self, extra_metadata: Mapping[str, Any] | None = None) -> RecordingReport:
        """End the recording: everything is on disk on return.

        Parameters
        ----------
        extra_metadata : mapping, optional
            About the recording as a whole; kept in the sidecar, beside the frames by position, and
            in the report as ``extra_metadata``.

        Raises
        ------
        WriteError
            If anything went wrong; what was written before is kept.
        """
        if self._run is None:
            raise self._refused or WriteError(
                f"{self.path}: nothing was begun. Call begin() first."
            )
        self._run.extra_metadata.update(extra_metadata or {})
        self._run.finish()
        return self.result()


def color_order_of(given: Any) -> ColorOrder:
    """Return an order of colours.

    Raises
    ------
    ValueError
        If it is none.
    """
    if given in ("RGB", "BGR"):
        return cast("ColorOrder", given)
    raise ValueError(f"color_order is one of RGB, BGR, not {given!r}.")


def _copied(frame: np.ndarray, swapped: bool) -> np.ndarray:
    """Return a copy of `frame` that nobody changes, its colours swapped if that is wanted."""
    if swapped and frame.ndim == 3:
        return _swapped(frame)
    if frame.nbytes < SMALL_COPY_BYTES:
        # keeps the interpreter's lock, see there
        return np.frombuffer(frame.tobytes(), frame.dtype).reshape(frame.shape)
    return np.array(frame, order="C")


def _swapped(frame: np.ndarray) -> np.ndarray:
    """Return a copy with red and blue in each other's place."""
    if frame.dtype.name not in ("uint8", "uint16", "float32"):
        return np.array(frame[..., ::-1], order="C")
    import cv2

    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2RGB))


def _frame_metadata(
    metadata: Mapping[str, Any] | None, timestamp_s: float | None, now: float
) -> bytes:
    entry = dict(metadata or {})
    if timestamp_s is not None:
        entry["timestamp_s"] = timestamp_s
    camera = entry.get("camera_metadata", {})
    if isinstance(camera, Mapping) and _RECEIVED not in {*entry, *camera}:
        # local time without a zone, as MMCore writes it; mesofield's parsers read it there
        received = datetime.fromtimestamp(now).isoformat(" ", "microseconds")
        entry["camera_metadata"] = {**camera, _RECEIVED: received}
    return to_json(entry)
