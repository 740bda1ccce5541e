"""An MDA engine whose frames say what they are; all the rest is the real thing.

``StampedEngine`` runs in pymmcore-plus's own runner on a real ``CMMCorePlus``. It only leaves out
the camera: instead of exposing, it hands out a stamped frame (tests/stamps.py), together with the
``FrameMetaV1`` and ``SummaryMetaV1`` that pymmcore-plus itself makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pymmcore_plus import PixelFormat
from pymmcore_plus.mda import MDAEngine, SkipEvent
from useq import AcquireImage, MDAEvent

from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray
    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.mda._protocol import PImagePayload
    from pymmcore_plus.metadata import SummaryMetaV1
    from pymmcore_plus.metadata.schema import ImageInfo
    from useq import MDASequence

    FrameShape = tuple[int, ...]

Skip = Callable[[MDAEvent], bool] | Collection[int]


class EngineError(RuntimeError):
    """The engine was told to fail at this frame."""


class StampedEngine(MDAEngine):
    """Run events one by one on *core* and yield stamped frames.

    Parameters
    ----------
    core : CMMCorePlus
        Any core with a camera loaded; mm_configs/demo.cfg will do for every option below.
    frame_shape : tuple[int, ...]
        ``(y, x)`` or, for colour, ``(y, x, 3)``; colour frames are not C-contiguous, just as
        those of a real core.
    dtype : DTypeLike
        Of the frames; what the core's camera would give does not matter.
    bit_depth : int, optional
        Significant bits of a pixel, e.g. 12 for a 12-bit camera in uint16.
    cameras : int
        With two or more, each event gives one frame a camera with ``index["cam"]``, from
        ``Camera-1``, ``Camera-2``, …
    camera_shapes : sequence of shapes, optional
        One for each camera, where they differ. The real Multi Camera refuses such pairs, but
        engines for two independent cameras exist.
    skip : set of int, or callable, optional
        Which events to skip: their numbers in the order in which they are set up, from 0, or a
        function of the event.
    numbered : bool
        Stamp the number of the acquisition (``n``) beside each index, for plans that take more
        than one frame at an index. Events without any index are always numbered.
    fail_at : int, optional
        Raise ``EngineError`` in place of this frame (counted from 0 in each run).
    on_frame : callable, optional
        Called with the number of a frame just before the frame is handed over, in the
        acquisition thread. What it does (cancel, pause, wait) happens in the middle of an event.
    lose : set of int
        Frames (counted from 0 in each run) that are taken and never come, as it happens to the
        real engine in hardware sequences.
    hardware : bool
        Merge events to hardware sequences, as far as the core's devices can.
    move : bool
        Move stages, set channels and run the autofocus as the real engine would. By default
        nothing moves, which is at least twice as fast.
    lie : bool
        Leave the summary metadata as the core made it: it then announces the core's own camera
        and not the frames that come.
    """

    # of the run that is under way
    _events: int
    _acquisitions: int
    _frames: int

    def __init__(
        self,
        core: CMMCorePlus,
        *,
        frame_shape: FrameShape = (32, 32),
        dtype: DTypeLike = "uint16",
        bit_depth: int | None = None,
        cameras: int = 1,
        camera_shapes: Sequence[FrameShape] | None = None,
        skip: Skip | None = None,
        numbered: bool = False,
        fail_at: int | None = None,
        on_frame: Callable[[int], object] | None = None,
        lose: Collection[int] = (),
        hardware: bool = False,
        move: bool = False,
        lie: bool = False,
    ) -> None:
        # nothing to restore where nothing was moved; None lets the real engine decide
        restore = None if move else False
        super().__init__(core, use_hardware_sequencing=hardware, restore_initial_state=restore)
        self.shapes = [tuple(shape) for shape in camera_shapes or [frame_shape] * cameras]
        self.dtype = np.dtype(dtype)
        self.bit_depth = bit_depth
        self.skip = skip
        self.numbered = numbered
        self.fail_at = fail_at
        self.on_frame = on_frame
        self.lose = lose
        self.move = move
        self.lie = lie
        self._begin()
        if camera_shapes is not None and cameras not in (1, len(camera_shapes)):
            raise ValueError(f"{cameras} cameras, but {len(camera_shapes)} camera_shapes")

    @property
    def cameras(self) -> int:
        """How many frames one event gives."""
        return len(self.shapes)

    def setup_sequence(self, sequence: MDASequence) -> SummaryMetaV1 | None:
        self._begin()
        summary = super().setup_sequence(sequence)
        set_fields_of_view(sequence, self.shapes[0], self.mmcore.getPixelSizeUm())
        if summary is not None and not self.lie:
            summary["image_infos"] = self._image_infos(summary["image_infos"])
        return summary

    def setup_event(self, event: MDAEvent) -> None:
        number, self._events = self._events, self._events + 1
        if is_skipped(event, number, self.skip):
            raise SkipEvent(num_frames=1, reason="the test said so")
        if self.move:
            super().setup_event(event)

    def exec_event(self, event: MDAEvent) -> Iterator[PImagePayload | None]:
        if takes_frames(event):
            for each in getattr(event, "events", (event,)):
                yield from self._stamped_frames(each)
        elif self.move:
            yield from super().exec_event(event)

    def _begin(self) -> None:
        self._events = 0
        self._acquisitions = 0
        self._frames = 0

    def _stamped_frames(self, event: MDAEvent) -> Iterator[PImagePayload | None]:
        """Yield what exec_single_event of the real engine yields, but with stamped images."""
        number, self._acquisitions = self._acquisitions, self._acquisitions + 1
        t0 = event.metadata.get("runner_t0") or time.perf_counter()
        runner_time_ms = (time.perf_counter() - t0) * 1000
        for cam in range(self.cameras):
            sub_event = event
            if self.cameras > 1:
                sub_event = event.model_copy(update={"index": {**event.index, "cam": cam}})
            # as in the real engine, mda_event in the metadata is the event without "cam"
            meta = self.get_frame_metadata(
                event, runner_time_ms=runner_time_ms, camera_device=self._camera_label(cam)
            )
            image = self._image(stamped_index(sub_event, number, self.numbered), cam)
            lost = self._frames in self.lose
            self._announce_frame()
            yield None if lost else (image, sub_event, meta)

    def _image(self, index: dict[str, int], cam: int) -> NDArray[Any]:
        image = stamp(index, self.shapes[cam], self.dtype, bit_depth=self.bit_depth)
        # the core turns BGRA into RGB by fancy indexing, which leaves an unusual memory layout
        return image if image.ndim == 2 else image[..., [0, 1, 2]]

    def _announce_frame(self) -> None:
        number, self._frames = self._frames, self._frames + 1
        if number == self.fail_at:
            raise EngineError(f"the engine was told to fail at frame {number}")
        if self.on_frame is not None:
            self.on_frame(number)

    def _camera_label(self, cam: int) -> str:
        return self.mmcore.getCameraDevice() if self.cameras == 1 else f"Camera-{cam + 1}"

    def _image_infos(self, infos: Sequence[ImageInfo]) -> tuple[ImageInfo, ...]:
        """Return *infos* as the core would make them if its cameras gave the stamped frames."""
        selected = self._image_info(infos[0], self.shapes[0])
        if self.cameras == 1:
            return (selected, *infos[1:])
        # the real summary, too, lists the multi-camera first and then each camera behind it
        behind = [self._image_info(infos[0], shape) for shape in self.shapes]
        for cam, info in enumerate(behind):
            info["camera_label"] = self._camera_label(cam)
        selected["num_camera_adapter_channels"] = self.cameras
        return (selected, *behind)

    def _image_info(self, info: ImageInfo, shape: FrameShape) -> ImageInfo:
        bits, components = (32, 1) if len(shape) == 2 else (16, 3)
        bits = min(bits, self.bit_depth or 8 * self.dtype.itemsize)
        patched = {
            **{key: value for key, value in info.items() if key not in _SHAPE_DEPENDENT},
            "plane_shape": shape,
            "dtype": self.dtype.name,
            "height": shape[0],
            "width": shape[1],
            "pixel_format": PixelFormat.pick(bits, components).value,
        }
        return cast("ImageInfo", patched)


_SHAPE_DEPENDENT = {"roi", "multi_roi", "num_camera_adapter_channels"}


def takes_frames(event: MDAEvent) -> bool:
    """Whether *event* exposes; autofocus and custom actions do not."""
    return event.action is None or isinstance(event.action, AcquireImage)


def is_skipped(event: MDAEvent, number: int, skip: Skip | None) -> bool:
    """Whether *skip* names this event, the *number*-th one."""
    if skip is None:
        return False
    return skip(event) if callable(skip) else number in skip


def stamped_index(event: MDAEvent, number: int, numbered: bool = False) -> dict[str, int]:
    """Return what is stamped into the frame of *event*: its own index.

    An event that has no index but, perhaps, ``cam`` also gets ``n``, its *number* among all
    acquisitions: its frame must differ from the next.
    """
    # str(): the keys of useq's own indices are members of an enum
    index = {str(axis): int(value) for axis, value in event.index.items()}
    return {**index, "n": number} if numbered or not index.keys() - {"cam"} else index


def set_fields_of_view(sequence: MDASequence, shape: FrameShape, pixel_size_um: float) -> None:
    """Tell all grids of *sequence* how much one frame covers, as the real engine does.

    The real one asks the core for its camera's size, which is not that of the stamped frames.
    The number of tiles between given edges follows from this.
    """
    subsequences = [p.sequence for p in sequence.stage_positions if p.sequence is not None]
    for grid in (each.grid_plan for each in (sequence, *subsequences)):
        if grid is not None:
            grid.fov_height, grid.fov_width = (n * pixel_size_um for n in shape[:2])
