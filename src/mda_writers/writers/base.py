"""What all writers are: output handlers for pymmcore-plus, and direct mode on the same object."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import threading
import time
import uuid
import weakref
from collections import defaultdict
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np

from mda_writers.errors import (
    BacklogError,
    FrameError,
    UnknownOptionError,
    WriteError,
    option_names,
    options_checked,
)
from mda_writers.model.direct import DirectPlan
from mda_writers.model.encode import sequence_dict, to_json
from mda_writers.model.frame import Frame
from mda_writers.model.layout import Layout, by_event_channel, common_steps
from mda_writers.model.locate import Locator
from mda_writers.model.microscope import MicroscopeInfo
from mda_writers.model.names import check_name, split_suffix
from mda_writers.model.options import FrameSelection, MaxProjection
from mda_writers.model.plan import image_index, is_open_ended, mark_begun
from mda_writers.pymmcore import (
    Backlog,
    OMETiffWriter,
    any_core,
    cancel,
    connected_directly,
    is_relay,
    let_application_live,
    may_begin,
    ran_to_end,
    watch_runs,
)
from mda_writers.recording.files import journal_path, recording_path, sidecar_path
from mda_writers.recording.finish import files_of
from mda_writers.recording.journal import Journal
from mda_writers.recording.recording import Recording
from mda_writers.recording.replaced import check_own, find_existing, free_path
from mda_writers.recording.sidecar import read_sidecar, write_sidecar
from mda_writers.storage.disk_space import as_write_error
from mda_writers.storage.write_pool import SMALL_COPY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from mda_writers.formats.base import Format
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.options import Decide
    from mda_writers.model.report import RecordingReport


QUEUE_BYTES = 256 << 20
"""Default of ``queue_bytes``: a tenth of a second of a 2.5 GB/s camera, and small beside the
memory of an acquisition computer."""

MIN_FREE_BYTES = 1 << 20
"""Default of ``min_free_bytes``: what the last lines of a journal need on a full disk."""

RUN_BEGINS_S = 0.3
"""How long to wait for a run that was just asked for on a thread of its own."""

ColorOrder = Literal["RGB", "BGR"]

_RECEIVED = "TimeReceivedByCore"

# Threads: the upstream hooks and ``add_frame`` run on the caller's threads (the relay thread with
# ``output=``, the acquisition's thread when connected directly) and only hand frames over.
# Everything that touches the disk after that runs on the recording's writing thread.


class MDAWriter(OMETiffWriter):
    """Saves a recording; the base of all writers.

    Use it as an output handler (``core.run_mda(sequence, output=writer)``), connected directly
    (``with writer.connected(core): …``), through `record`, or in direct mode (`begin`,
    `add_frame`, `finish`) for cameras that you poll yourself.

    Parameters
    ----------
    filename : path-like
        Where the recording goes. Missing parent folders are made.
    overwrite : bool
        Whether a recording of that name may be replaced; it is, when the next one begins.
    queue_bytes : int
        Bytes of frames that may wait in memory. While they are full, ``add_frame`` and a
        directly connected camera wait; with ``output=`` frames wait in pymmcore-plus's own
        queue, which is watched.
    min_free_bytes : int
        Bytes of the disk to leave free.
    sync_ms : float, optional
        By default a journalled frame survives a killed process. With
        ``sync_ms`` it survives a power cut as well: every so many milliseconds everything is
        synced, and lines are written only then.
    save_frame : iterable of bool, or callable, optional
        Which frames to keep: a flag for each, in the order of their arrival, or a function
        ``(event, metadata) -> bool``. The others are listed as acquired and not saved.
    max_projection : bool, str or MaxProjection
        Whether to make maximum projections while frames come, along z or the axes given; see
        `MaxProjection`.
    core : CMMCorePlus, optional
        The core whose run is cancelled when writing fails. By default the one that the writer
        is connected to, or else ``CMMCorePlus.instance()``.

    Raises
    ------
    ValueError
        If the suffix is not one of this writer's.
    FileExistsError
        If there is a recording of that name and `overwrite` is False.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    default_color_order: ClassVar[ColorOrder] = "RGB"
    takes_bgr: ClassVar[bool] = False
    """Whether its format turns BGR into RGB by itself."""

    _color_order: ColorOrder | None = None

    def __init__(
        self,
        filename: str | Path,
        *,
        overwrite: bool = False,
        queue_bytes: int = QUEUE_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
        sync_ms: float | None = None,
        save_frame: Iterable[bool] | Decide | None = None,
        max_projection: bool | str | MaxProjection = False,
        core: CMMCorePlus | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise UnknownOptionError(type(self).__name__, name, self.option_names())
        # upstream's __init__ takes TIFF names only; what it sets is set here
        self.position_arrays: dict[str, Any] = {}
        self.current_sequence: MDASequence | None = None
        # called with the path of a recording that begins, or has ended; they must not raise
        self.on_begin: Callable[[Path], None] | None = None
        self.on_end: Callable[[Path], None] | None = None
        self.path = Path(filename).expanduser().absolute()
        self._overwrite = overwrite
        self._limits: dict[str, Any] = {
            "queue_bytes": _positive("queue_bytes", queue_bytes),
            "min_free_bytes": _natural("min_free_bytes", min_free_bytes),
            "sync_ms": None if sync_ms is None else _positive("sync_ms", sync_ms),
        }
        self._selection = None if save_frame is None else FrameSelection(save_frame)
        self._projection = MaxProjection.of(max_projection)
        self._core = None if core is None else weakref.ref(core)
        self._run: Recording | None = None
        self._making: Recording | None = None
        self._refused: WriteError | None = None
        self._direct: DirectPlan | None = None
        self._interrupted: BaseException | None = None
        self._backlog = Backlog()
        self._runs = 0
        self._check_suffix()
        check_name(self.path.name)
        if overwrite:
            _refuse_foreign(self.path)
        else:
            _refuse_existing(self.path)
        _open_writers.add(self)

    @classmethod
    def option_names(cls) -> set[str]:
        """Return the names of all options of this class of writers."""
        makers = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
        ours = makers[: makers.index(MDAWriter.__init__) + 1]
        return set().union(*map(option_names, ours))

    # ------------------------------------------------------------ hooks of pymmcore-plus

    def sequenceStarted(self, seq: MDASequence, meta: Any = None) -> None:
        """Lay out the files for `seq`; never raises (see `error`)."""
        with self._never_raising():
            self._finish_open_run("the next sequence began before the end of this one")
            self.current_sequence = seq
            self._refused = None
            self._direct = None
            self._backlog.watch(self, seq, self._own_core)
            summary = meta if isinstance(meta, dict) else {}
            self._begin_run(*self._plan_of_sequence(seq, summary))

    def frameReady(self, frame: np.ndarray, event: MDAEvent, meta: Any = None) -> None:
        """Hand over one frame; never raises (see `error`)."""
        try:  # `_never_raising` would be expensive per frame
            run = self._run
            if run is None or run.finished:
                return
            metadata = {} if meta is None else meta
            run.tally.frame_came(event.index, metadata)
            run.put(Frame(frame, event.index, metadata, event), self._watch_backlog)
        except BaseException as error:
            self._take_failure(error)

    def eventStarted(self, event: MDAEvent) -> None:
        """Note that an event was begun, so that one without a frame is known as skipped."""
        with self._never_raising():
            if self._run is None or self._run.finished:
                return
            if not is_relay(threading.current_thread()):  # the relay has marked it already
                mark_begun(event)
            self._run.tally.begin_event(event)

    def sequenceCanceled(self, seq: MDASequence) -> None:
        """Note that the run was cancelled."""
        with self._never_raising():
            if self._run is not None:
                self._run.tally.canceled = True

    def sequenceFinished(self, seq: MDASequence | None) -> None:
        """Drain, close all, and write what is known at the end; never raises (see `error`)."""
        with self._never_raising():
            if self._run is not None:
                core = self._backlog.core(self._own_core)
                self._run.tally.buffer_overflowed = core.isBufferOverflowed() if core else None
                self._run.tally.ran_to_end = ran_to_end(self._backlog.runner, seq)
                self._run.tally.end_events()
                self._run.finish()

    # ------------------------------------------------------------ direct mode

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
        """Begin a recording of a camera that you poll yourself.

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
            If no recording is open, or it failed: this says what the disk said.
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

    # ------------------------------------------------------------ what became of it

    @property
    def frames_expected(self) -> int | None:
        """Frames that the plan holds; None when its length is unknown."""
        return self._run.locator.frames_expected if self._run else None

    @property
    def frames_received(self) -> int:
        """Frames handed over so far."""
        return self._run.frames_received if self._run else 0

    @property
    def frames_written(self) -> int:
        """Frames that are on disk, pixels and metadata."""
        return self._run.frames_written if self._run else 0

    @property
    def paths(self) -> list[Path]:
        """The files of the last recording that exist."""
        run = self._run
        if run is None or run.gave_way:
            return []
        names = (name for image in run.locator.images for name in run.files(image))
        files = files_of(run.path, names)
        files += run.projections.files() if run.projections else []
        files += [f(run.path) for f in (sidecar_path, recording_path, journal_path)]
        return [file for file in dict.fromkeys(files) if file.exists()]

    @property
    def error(self) -> WriteError | None:
        """What went wrong, or None."""
        return self._refused or (self._run.failure if self._run else None)

    def result(self) -> RecordingReport:
        """Return the report of the last recording; waits for its end.

        Raises
        ------
        WriteError
            If the recording failed, or there was none.
        """
        self._wait_for_end()
        if self.error is not None:
            raise self.error
        if self._run is None or self._run.report is None:
            raise WriteError(f"{self.path}: nothing was recorded yet.")
        return self._run.report

    def close(self) -> None:
        """End the recording if one is open; waits for a run that is still going.

        Raises
        ------
        WriteError
            If the recording failed.
        """
        self._wait_for_end()
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._end_early(error)
            return
        try:
            self.close()
        except Exception:
            raise
        except BaseException as interrupt:
            self._end_early(interrupt)
            raise

    @contextmanager
    def connected(self, core: CMMCorePlus) -> Iterator[Self]:
        """Connect directly to the signals of `core`, for the block.

        A slow disk then applies back-pressure to the camera instead of filling the memory. On
        leaving, the end of the run is waited for, and what went wrong is raised. Works on any
        thread, that of a Qt application included, whose loop goes on meanwhile.
        """
        before, self._core = self._core, weakref.ref(core)
        try:
            with connected_directly(core.mda.events, self), self:
                yield self
                self._wait_for_end()
        finally:
            self._core = before

    # ------------------------------------------------------------ looking at what is there

    def isel(self, indexers: Mapping[str, Any] | None = None, **indexers_kwargs: Any) -> np.ndarray:
        """Return pixels by index, while the run goes on and after it.

        Every frame handed over before the call is in the result; places without a frame are
        zero. Axes p, g (and others that make images) choose the image, by default the first;
        t, c, z, y, x take integers and slices.

        Raises
        ------
        IndexError
            If there is no such image, or an axis that it does not have.
        """
        wanted = {**(indexers or {}), **indexers_kwargs}
        run = self._run
        if run is not None:
            run.settle()
        if run is None or not run.locator.images:
            raise IndexError(f"{self.path}: nothing was recorded yet.")
        image = _choose_image(run, wanted)
        axes = [*image.sizes, "y", "x"]
        if "cam" in wanted and "c" in image.sizes:
            wanted["c"] = by_event_channel(image.channels)[wanted.get("c", 0)][wanted["cam"]]
        return np.asarray(
            run.arrays[image.key][tuple(wanted.get(axis, slice(None)) for axis in axes)]
        )

    @property
    def projections(self) -> Mapping[str, np.ndarray]:
        """The maximum projections so far, by name (``P0000_CH00_000000``); see `MaxProjection`.

        Each is a copy of what it is now. Empty without ``max_projection``.
        """
        run = self._run
        return run.projections.so_far if run and run.projections else {}

    @property
    def frame_metadatas(self) -> defaultdict[str, list[dict[str, Any]]]:
        """The metadata of every frame that is on disk, by position key, read from there."""
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        run = self._run
        if run is None:
            return found
        run.settle()
        if run.gave_way:
            return found
        if sidecar_path(run.path).exists():  # it has taken over from the journal
            for key, frame in read_sidecar(sidecar_path(run.path)):
                found[key].append(frame)
        elif journal_path(run.path).exists():
            for key, frame in Journal.read(journal_path(run.path)).frames():
                found[key].append(frame)
        return found

    @property
    def position_sizes(self) -> list[dict[str, int]]:
        """Axis → size of every image of the recording, in order, without y and x."""
        return [dict(image.sizes) for image in self._run.locator.images] if self._run else []

    def get_position_key(self, event: MDAEvent) -> str:
        """Return the key of the image that a frame of `event` goes to."""
        if self._run is None:
            raise WriteError(f"{self.path}: nothing was begun yet.")
        return self._run.locator.key_of(event.index)

    @property
    def _filename(self) -> str:
        """The recording's path, where pymmcore-plus's writers have it."""
        return str(self._run.path if self._run is not None else self.path)

    @property
    def _frame_metadata_filename(self) -> str:
        """The sidecar's path, where mesofield's manifest looks for it."""
        return str(sidecar_path(Path(self._filename)))

    # ------------------------------------------------------------ for subclasses

    def format(self, set_id: str) -> Format:
        """Return how this writer's files begin, and get their final form.

        Parameters
        ----------
        set_id : str
            A UUID of the recording.
        """
        raise NotImplementedError

    def new_array(self, position_key: str, dtype: np.dtype, sizes: dict[str, int]) -> Any:
        """Begin the file of one image, and return the array that takes its frames.

        Parameters
        ----------
        position_key : str
            The image's key.
        dtype : dtype
            Pixel type.
        sizes : dict
            Axis → size, slowest first, with y and x (and s for colour).
        """
        run = self._current_run()
        image = run.locator.image(position_key)
        return run.fmt.new_array(run.path.parent / image.file, image, run.layout_now(), run.pool)

    def write_frame(self, ary: Any, index: tuple[int, ...], frame: np.ndarray) -> None:
        """Write one frame into its array; called on the writing thread."""
        ary[index] = frame

    def finalize_metadata(self) -> None:
        """Write the sidecar from the journal, at the end of a recording."""
        run = self._run
        if run is not None:
            write_sidecar(journal_path(run.path), sidecar_path(run.path), run.extra_metadata)

    # ------------------------------------------------------------ the beginning of a recording

    def _check_suffix(self) -> None:
        if split_suffix(self.path.name)[1].lower() not in self.suffixes:
            raise ValueError(
                f"{self.path.name}: {type(self).__name__} writes {', '.join(self.suffixes)}. "
                "Give the file one of these suffixes."
            )

    def _plan_of_sequence(
        self, seq: MDASequence, summary: Mapping[str, Any]
    ) -> tuple[Locator, Layout, dict[str, Any]]:
        microscope = MicroscopeInfo.from_summary(summary)
        try:
            locator = Locator.of_sequence(seq, microscope, self._next_path().name)
        except ValueError as error:
            raise WriteError(f"{self.path}: {error}") from error
        z_step_um, time_interval_s = common_steps(locator.images)
        layout = Layout(
            pixel_size_um=microscope.pixel_size_um,
            z_step_um=z_step_um,
            time_interval_s=time_interval_s,
            started=microscope.started,
            cameras=_cameras_in_use(locator, microscope),
            bit_depth=microscope.bit_depth,
            objective=microscope.objective,
            magnification=microscope.magnification,
            axis_order="".join(seq.axis_order),
        )
        sequence = None if is_open_ended(seq) else sequence_dict(seq)
        about = {k: v for k, v in summary.items() if k != "mda_sequence"}
        return locator, layout, {"sequence": sequence, "summary_metadata": about}

    def _next_path(self) -> Path:
        """Return the recording's path: the given one, and for later runs the next free name."""
        if self._runs == 0 and self._overwrite:
            return self.path
        return free_path(self.path)

    def _begin_run(self, locator: Locator, layout: Layout, header: Mapping[str, Any]) -> None:
        path = self._next_path()
        try:
            check_name(path.name)  # a later run's is numbered
        except ValueError as error:
            raise WriteError(str(error)) from error
        replaces = self._overwrite and self._runs == 0
        set_id = str(uuid.uuid4())
        run = Recording(
            path=path,
            fmt=self.format(set_id),
            set_id=set_id,
            locator=locator,
            layout=layout,
            header=header,
            new_array=self.new_array,
            write_frame=self.write_frame,
            finalize_metadata=self.finalize_metadata,
            cancel=self._cancel,
            ended=self._announce_end,
            **self._limits,
            selection=self._selection,
            projection=self._projection,
            replaces=replaces,
        )
        self._making = run
        run.open()
        self._runs += 1
        self._run = run
        self.position_arrays = run.arrays
        if self.on_begin is not None:
            self.on_begin(path)

    def _current_run(self) -> Recording:
        """Return the recording that arrays are made for; while it opens, nobody else sees it."""
        run = self._making or self._run
        if run is None:
            raise WriteError(f"{self.path}: nothing was begun yet.")
        return run

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

    # ------------------------------------------------------------ what goes wrong

    @contextmanager
    def _never_raising(self) -> Iterator[None]:
        """Keep a hook from raising: upstream, that would silence every handler of the run."""
        try:
            yield
        except BaseException as error:
            self._take_failure(error)

    def _take_failure(self, error: BaseException) -> None:
        """End the recording because a hook failed; whoever waits for the end gets the error."""
        wrapped = as_write_error(error, self.path, "a hook failed")
        is_open = self._run is not None and not self._run.finished
        if not isinstance(error, Exception):  # Ctrl-C: raised by whoever waits for the end
            self._interrupted = self._interrupted or error
            self._interrupt_wait()
            if self._run is not None and is_open:
                self._run.cancel_softly(wrapped)
        elif self._run is not None and is_open:
            self._run.fail(wrapped)
        else:
            self._refused = self._refused or wrapped
            self._cancel(wrapped)

    def _cancel(self, error: WriteError) -> None:
        """Cancel the run that feeds us, that one alone; called once, on the writing thread."""
        if self._direct is not None:
            return  # add_frame raises it in the caller's own loop
        if self._backlog.runner is None:
            error.args = (f"{error} {_RUN_UNKNOWN}",)
        cancel(self._backlog.runner)

    def _cancel_run(self) -> None:
        """Cancel the run whose frames are being recorded, where it is known."""
        if self._run is not None and not self._run.finished and self._direct is None:
            cancel(self._backlog.runner)

    def _watch_backlog(self) -> None:
        """Look at upstream's queue while ours is full; it has no bound of its own."""
        run = self._run
        if run is not None and run.failure is None and self._backlog.too_long(run.frame_bytes):
            error = BacklogError(
                f"{run.path}: {self._backlog.frames} frames wait in memory, the disk does not keep "
                "up. The run was cancelled; every frame acquired so far is still being written. "
                "Use record() or writer.connected(core), which apply back-pressure."
            )
            run.cancel_softly(error)

    def _announce_end(self, path: Path) -> None:
        if self.on_end is not None:
            self.on_end(path)

    @property
    def _own_core(self) -> CMMCorePlus | None:
        """The core that the writer is connected to, or was given."""
        return self._core() if self._core else None

    @property
    def _place(self) -> object:
        """What only one writer at a time can write to."""
        return os.path.normcase(self.path.resolve())

    # ------------------------------------------------------------ the end of a recording

    def _wait_for_end(self) -> None:
        """Wait while frames may still come; then close what nobody closed."""
        run = self._run or self._await_run()
        if run is not None and not run.finished:
            if self._direct is None:
                self._follow(run)
            run.finish()
        if self._interrupted is not None:
            interrupt, self._interrupted = self._interrupted, None
            raise interrupt

    def _await_run(self) -> Recording | None:
        """Return the first run, if one is about to begin: ``run_mda`` returns before it does."""
        deadline = time.monotonic() + RUN_BEGINS_S
        while self._run is None and self._refused is None:
            core = self._own_core
            if any_core(core) is None:
                return None
            # looked at before the run: a busy machine may take all that time between the two
            is_late = time.monotonic() > deadline
            if may_begin(self, core) or self._backlog.is_coming():
                deadline = time.monotonic() + RUN_BEGINS_S
            elif is_late:
                return self._run
            let_application_live()
            time.sleep(0.01)
        return self._run

    def _follow(self, run: Recording) -> None:
        while not (run.wait(0.05) or run.given_up) and self._backlog.is_coming():
            let_application_live()
        if run.finishing:
            return
        if self._backlog.only_end_is_missing(self.current_sequence, run.tally.canceled):
            self.sequenceFinished(self.current_sequence)
            return
        self._finish_open_run(
            "the end of the sequence was never announced (another handler of the run may have "
            "raised)"
        )

    def _finish_open_run(self, reason: str) -> None:
        run = self._run
        if run is not None and not (run.finished or run.given_up):
            run.end_with(WriteError(f"{run.path}: {reason}. Every frame that came is kept."))
            run.finish()

    def _end_early(self, error: BaseException) -> None:
        """Cancel the run because of `error`, and end it; every frame that came is kept."""
        run = self._run
        if run is None or run.finished:
            return
        run.cancel_softly(WriteError(f"{run.path}: ended by {type(error).__name__}: {error}"))
        if not isinstance(error, Exception):
            run.interrupt()
        while not (run.finished or run.given_up):
            try:
                self._wait_for_end()
            except BaseException:  # Ctrl-C once more; `error` is on its way anyway
                run.interrupt()

    def _interrupt_wait(self) -> None:
        """Note that whoever waits for the end was interrupted; see ``Recording.interrupt``."""
        if self._run is not None and not self._run.finished:
            self._run.interrupt()

    def _forget_run(self) -> None:
        """After a fork: what is being recorded is the parent's, and none of this process's."""
        if self._run is None or self._run.finished:
            return
        # An encoder or a file that is let go of, be it by the exit of the interpreter, would write,
        # or wait for threads that are not here: the run is kept for good, and so is what of it
        # waits for the garbage collector.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._run))
        gc.freeze()
        self._run = self._making = self._direct = self._refused = None
        self.position_arrays = {}
        self._backlog = Backlog()


_RUN_UNKNOWN = (
    "It is not known which run feeds this writer, so none was cancelled: stop it yourself. "
    "record(), run_mda(output=…) and writer.connected(core) know."
)

_open_writers: weakref.WeakSet[MDAWriter] = weakref.WeakSet()


def _forget_parents_runs() -> None:
    for writer in list(_open_writers):
        writer._forget_run()


def finish_first_at_exit() -> None:
    """Have open recordings ended before the libraries that were imported so far are."""
    atexit.unregister(_finish_all)
    atexit.register(_finish_all)  # what is registered last runs first


@atexit.register
def _finish_all() -> None:
    """Close what is still open when the interpreter exits: its frames are worth having."""
    for writer in list(_open_writers):
        with writer._never_raising():
            writer._finish_open_run("the program ended before the recording did")


def _refuse_foreign(path: Path) -> None:
    try:
        check_own(path)
    except WriteError as error:
        raise FileExistsError(str(error)) from None


def _refuse_existing(path: Path) -> None:
    existing = find_existing(path)
    if existing:
        raise FileExistsError(
            f"{path}: a recording of that name exists ({existing[0].name}). Choose another name, "
            "or pass overwrite=True to replace it."
        )


def _positive(name: str, value: Any) -> Any:
    if value <= 0:
        raise ValueError(f"{name} must be greater than 0, not {value}.")
    return value


def _natural(name: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"{name} must not be negative ({value}).")
    return value


def _choose_image(run: Recording, wanted: Mapping[str, Any]) -> ImageLayout:
    """Return the image that the indices choose; the first one where they choose none."""
    chosen = dict(image_index({k: v for k, v in wanted.items() if k not in ("y", "x", "s")}))
    for image in run.locator.images:
        own = {axis: i for axis, i in image.index.items() if axis != "cam"}
        if all(own.get(axis, 0) == i for axis, i in chosen.items()):
            return image
    raise IndexError(
        f"There is no image at {chosen}; there are "
        f"{', '.join(str(image.index or image.name) for image in run.locator.images)}."
    )


def _cameras_in_use(locator: Locator, microscope: MicroscopeInfo) -> tuple[str, ...]:
    planned = (c.camera for image in locator.images for c in image.channels)
    return tuple(dict.fromkeys(planned)) or tuple(camera.label for camera in microscope.cameras)


def color_order_of(given: Any) -> ColorOrder:
    """Return an order of colours; ValueError if it is none."""
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_runs)


watch_runs(MDAWriter)
