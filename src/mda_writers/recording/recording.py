"""A recording from its first frame to its end: files laid out, frames written by one thread."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers._version import __version__
from mda_writers.errors import FrameError, WriteError
from mda_writers.model.frame import Frame, PlacedFrame
from mda_writers.recording.disk_guard import DiskGuard
from mda_writers.recording.files import journal_path
from mda_writers.recording.finish import (
    Tally,
    build_report,
    finish_files,
    lost_frames,
    write_report,
)
from mda_writers.recording.frame_queue import FrameQueue
from mda_writers.recording.journal_writer import FrameTable, JournalKeeper, LoadLog
from mda_writers.recording.max_projection import ImageFiles, ProjectionSink, free_folder
from mda_writers.recording.replaced import Replaced, ReplacedSink
from mda_writers.storage.disk_space import as_write_error, explained
from mda_writers.storage.files import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.base import Format, FrameSink
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.locate import Locator
    from mda_writers.model.options import FrameSelection, MaxProjection
    from mda_writers.model.report import RecordingReport
    from mda_writers.storage.files import LineFile
    from mda_writers.storage.write_pool import WritePool


_INCOMPLETE = "the recording could not be completed"
_WAY_OUT = "Its pixels and its journal are on disk; `mda-writers recover` completes it."

GIVE_UP_S = 5.0
"""How long to wait for the threads of a recording whose end was given up. A write that hangs in
the system cannot be stopped; they keep the lock until it returns."""

RELEASE_BYTES = 1 << 20
"""Bytes that are taken off the queue's account at once; a lock a frame is dear for small ones."""

LOOK_AGAIN_S = 0.002
"""While pixels are on their way and no frame comes: how often to see whether they have landed."""


@dataclass(slots=True)
class Recording:
    """One recording. What belongs to it lives here and ends with it.

    Parameters
    ----------
    path : Path
        The recording's main path; its journal must not exist.
    fmt : Format
        How files begin, and get their final form.
    locator : Locator
        Where frames go.
    layout : Layout
        What is known of the recording; its images come from the locator.
    limits : Limits
        What it may use.
    seams : Seams
        What the writer decides.
    header : mapping
        What the journal's first line shall say besides the layout.
    selection : FrameSelection, optional
        Which frames are kept; by default all.
    projection : MaxProjection, optional
        Which maximum projections are made while frames come.
    replaces : bool
        Whether a recording of that name gives way: it stays until this one has a frame.
    """

    path: Path
    fmt: Format
    locator: Locator
    layout: Layout
    limits: Limits
    seams: Seams
    header: Mapping[str, Any]
    selection: FrameSelection | None = None
    projection: MaxProjection | None = None
    replaces: bool = False
    arrays: dict[str, Any] = field(default_factory=dict)
    set_id: str = ""
    tally: Tally = field(default_factory=Tally)
    extra_metadata: dict[str, Any] = field(default_factory=dict)
    report: RecordingReport | None = None
    error: WriteError | None = None
    pool: Any = field(init=False, default=None)
    projections: ProjectionSink | None = field(init=False, default=None)
    _replaced: Replaced | None = field(init=False, default=None)
    _journal: JournalKeeper = field(init=False)
    _table: FrameTable = field(init=False)
    _corridor: Corridor = field(init=False)
    _finished: threading.Event = field(init=False, default_factory=threading.Event)
    _finish_lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _interrupts: int = field(init=False, default=0)
    _interrupt: BaseException | None = field(init=False, default=None)
    _given_up_at: float | None = field(init=False, default=None)
    _started: float = field(init=False, default_factory=time.perf_counter)
    _files: set[str] = field(init=False, default_factory=set)
    _is_new: bool = field(init=False, default=False)

    def open(self) -> None:
        """Check the disk, write the journal's header, lay out all files, start writing.

        Raises
        ------
        WriteError
            If the recording cannot begin; nothing of it is left behind.
        """
        self._check_selection()
        self._check_space()
        self._replaced = Replaced.if_any(self.path) if self.replaces else None
        self._is_new = not self.path.exists()
        try:
            self._journal = JournalKeeper(self.path)
        except BaseException:
            self._put_back()
            raise
        try:
            self._make_projections()
            self._journal.begin(self._header())
            self._connect(self._journal.writer)
            self._corridor.open()
        except BaseException as error:
            self._leave_nothing()
            if isinstance(error, OSError):
                raise explained(error, self.path) from error
            raise

    def put(self, frame: Frame, while_waiting: Callable[[], None] | None = None) -> None:
        """Hand over a frame; waits while ``queue_bytes`` are full."""
        self._corridor.put(frame, while_waiting)

    def settle(self) -> None:
        """Return when every frame handed over so far is in its file."""
        if not self._finished.is_set():
            self._corridor.settle()

    def fail(self, error: WriteError) -> None:
        """End the recording with `error`; frames that are on disk stay."""
        self._corridor.fail(error)

    def cancel_softly(self, error: WriteError) -> None:
        """Cancel the run because of `error`, and still write every frame that was acquired."""
        if self.error is None:
            self.end_with(error)
            self.seams.cancel(error)

    def end_with(self, error: WriteError) -> None:
        """Say why the recording ends too early; every frame handed over is still written."""
        self.error = self.error or error

    def finish(self) -> None:
        """Drain, close all, say what happened; see `error` and `report`.

        Raises nothing but what interrupts the wait (Ctrl-C, a signal's handler), and that after
        the end, which goes on meanwhile. The second interrupt gives up: see `give_up`.
        """
        interrupt: BaseException | None = None
        while not (self._finished.is_set() or self._waited_enough):
            try:
                self._see_to_end()
                self._finished.wait(0.1)  # a wait without a limit hears no Ctrl-C on Windows
            except BaseException as error:
                interrupt = interrupt or error
                self.interrupt()
        interrupt, self._interrupt = interrupt or self._interrupt, None
        if interrupt is not None:
            raise interrupt

    def interrupt(self) -> None:
        """Take in that who waits for the end was interrupted: the second time, give up."""
        self._interrupts += 1
        if self._interrupts > 1 and not self.given_up:
            self.give_up()

    def give_up(self) -> None:
        """Write nothing more, and leave what is on disk to `recover`."""
        self._given_up_at = time.monotonic()
        error = WriteError(f"{self.path}: its end was interrupted. {_WAY_OUT}")
        self.end_with(error)
        self._corridor.fail(error)

    @property
    def given_up(self) -> bool:
        """Whether the end was given up."""
        return self._given_up_at is not None

    @property
    def finishing(self) -> bool:
        """Whether somebody is ending the recording, or has done so."""
        return self._finish_lock.locked() or self._finished.is_set()

    @property
    def gave_way(self) -> bool:
        """Whether the recording that this one was to replace stays: this one has no frame yet."""
        return self._replaced is not None and not self._replaced.is_removed

    @property
    def finished(self) -> bool:
        """Whether the recording has ended and its report is there."""
        return self._finished.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return whether the recording has ended, waiting for it at most `timeout_s`."""
        return self._finished.wait(timeout_s)

    @property
    def frames_received(self) -> int:
        """Frames handed over so far."""
        return self._corridor.frames_received

    @property
    def frames_written(self) -> int:
        """Frames that are on disk, with their line in the journal."""
        return self._table.frames_written

    @property
    def failure(self) -> WriteError | None:
        """What went wrong so far."""
        return self.error or self._corridor.error

    def layout_now(self) -> Layout:
        """Return the recording's layout with the images whose frames are known by now."""
        images = tuple(image for image in self.locator.images if image.frame_shape)
        return replace(self.layout, images=images)

    @property
    def frame_bytes(self) -> int:
        """Bytes of the largest frame known so far."""
        return max((i.frame_bytes for i in self.locator.images if i.frame_shape), default=0)

    @property
    def queued_bytes(self) -> int:
        """Bytes of the frames that wait in memory."""
        return self._corridor.queued_bytes

    # ------------------------------------------------------------ the end

    @property
    def _waited_enough(self) -> bool:
        """Whether who gave up has waited for the threads, or was interrupted once more."""
        at = self._given_up_at
        return at is not None and (self._interrupts > 2 or time.monotonic() > at + GIVE_UP_S)

    def _see_to_end(self) -> None:
        """Have the recording ended, on a thread that no Ctrl-C reaches."""
        if self._finish_lock.locked():
            return
        if threading.current_thread() is threading.main_thread():
            with suppress(RuntimeError):  # an interpreter that exits starts no threads
                name = f"mda-writers end of {self.path.name}"
                threading.Thread(target=self._end_once, name=name, daemon=True).start()
                return
        self._end_once()

    def _end_once(self) -> None:
        with self._finish_lock:
            if self._finished.is_set():
                return
            try:
                self._close_and_end()
            finally:
                self._journal.unlock()
                self.seams.ended(self.path)
                self._finished.set()

    def _close_and_end(self) -> None:
        while self._interrupts < 3:
            try:
                self._corridor.close()
                self.error = self.error or self._corridor.error
                if not self.given_up:
                    self._end()
                return
            except Exception as error:
                self.error = self.error or as_write_error(error, self.path, _INCOMPLETE, _WAY_OUT)
                return
            except BaseException as interrupt:  # what is done twice is done right
                self._interrupt = self._interrupt or interrupt
                self.interrupt()

    # ------------------------------------------------------------ helpers, in order of use

    def _check_selection(self) -> None:
        if self.selection is not None:
            self.selection.check(self.locator.frames_expected)
            self.layout = replace(self.layout, selective=True)

    def _make_projections(self) -> None:
        if self.projection is not None:
            self.projections = ProjectionSink(
                free_folder(self.path),
                self.projection,
                self.locator,
                ImageFiles(self.layout, self.projection.preview),
            )

    def _check_space(self) -> None:
        if self.layout.selective or self.fmt.shrinks:
            return  # how much will be kept is not known; the guard watches the disk instead
        images = [image for image in self.locator.images if image.frame_shape]
        DiskGuard.check(
            self.path.parent,
            sum(map(self._disk_bytes, images)),
            self.locator.frames_expected or 0,
            self.limits.min_free_bytes,
        )

    def _disk_bytes(self, image: ImageLayout) -> int:
        """Return what an image takes: its pixels, its smaller levels, its projections."""
        projections = self.projection.disk_bytes(image) if self.projection else 0
        return self.fmt.disk_bytes(image) + projections

    def _header(self) -> dict[str, Any]:
        return {
            "format": self.fmt.name,
            "version": __version__,
            "path": self.path.name,
            "set_id": self.set_id,
            "layout": replace(self.layout, images=()),
            "frames_expected": self.locator.frames_expected,
            "process": this_process(),
            **({"projections": self.projections.folder.name} if self.projections else {}),
            **self.header,
        }

    def _connect(self, journal: LineFile) -> None:
        self.pool = self.fmt.new_pool()
        self.pool.durable = self.limits.sync_ms is not None
        self._table = FrameTable(journal, self.arrays, self.pool, self.limits.sync_ms)
        more: list[FrameSink] = [self.projections] if self.projections else []
        if self._replaced is not None:
            more.append(ReplacedSink(self._replaced, self._table))
        self._corridor = Corridor(
            self.path,
            self.locator,
            [self._guard(), self._array_sink(), self._table, self._load_log(journal), *more],
            self.limits.queue_bytes,
            self.seams.cancel,
            self.selection,
        )

    def _guard(self) -> DiskGuard:
        is_open = self.locator.open_ended or self.layout.selective
        return DiskGuard(
            self.path.parent,
            self.limits.min_free_bytes,
            claimed=self.fmt.claims_room and not is_open,
            bytes_under_way=self._bytes_to_come,
        )

    def _bytes_to_come(self) -> int:
        """Return the room that frames handed over before may still take.

        The sidecar, which becomes as large as the journal is, is written beside it.
        """
        under_way: int = self.pool.bytes_under_way()
        return under_way + journal_path(self.path).stat().st_size

    def _array_sink(self) -> ArraySink:
        return ArraySink(
            self.locator,
            self.arrays,
            self._new_array,
            lambda image: self.fmt.discard(self.path.parent / image.file),
            self.seams.write_frame,
            self._table,
            self.pool,
        )

    def _load_log(self, journal: LineFile) -> LoadLog:
        return LoadLog(
            journal,
            self.path.parent,
            lambda: self.queued_bytes,
            lambda: self._table.bytes_written,
        )

    def _new_array(self, image: ImageLayout) -> Any:
        """Return an array for an image, in a file of its own; leave none behind if that fails."""
        file = self.path.parent / image.file
        if image.file not in self._files and file.exists():
            raise WriteError(
                f"{file}: exists, and belongs to another recording. It was not touched; move it, "
                "or choose another name."
            )
        self._files.add(image.file)
        try:
            return self.seams.new_array(self, image)
        except BaseException:
            with suppress(OSError):
                self.fmt.discard(file)
            raise

    def _leave_nothing(self) -> None:
        if self.projections is not None:
            self.projections.remove()
        for name in self._files:
            with suppress(OSError):
                self.fmt.discard(self.path.parent / name)
        if self._is_new and self.path.is_dir():  # begun, and not yet what a format knows again
            shutil.rmtree(self.path, ignore_errors=True)
        self._journal.discard()
        self._put_back()

    def _put_back(self) -> None:
        if self._replaced is not None:
            with suppress(OSError):  # whoever opens it next puts it back
                self._replaced.restore()

    def _end(self) -> None:
        """Files, then sidecar, then report; the journal goes when the sidecar has taken over."""
        self._journal.check(self.set_id)
        finished = finish_files(self.path, self.fmt)
        self.locator.keep_only(finished.places)
        self.layout = finished.layout
        if not self.gave_way:
            self.seams.finalize_metadata()
        self.tally.frames_received = self.frames_received
        self.tally.frames_written = self._table.frames_written
        self.tally.not_saved = self._table.frames_left_out
        self.tally.bytes_written = self._table.bytes_written
        self.tally.intervals_s = self._table.intervals_s
        self.tally.seconds = time.perf_counter() - self._started
        self.tally.error = str(self.error or "")
        self.report = build_report(self.path, finished, self.locator, self.tally)
        if self.error is None and (error := lost_frames(self.report, self.tally)):
            self.error = error
            self.report = replace(self.report, error=str(error))
        if self.gave_way:
            self.report = replace(self.report, paths=[])
            self._leave_nothing()
            return
        write_report(self.path, self.report, finished, self.extra_metadata)
        self._journal.retire()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a recording may use. Bytes and milliseconds; see ``MDAWriter``."""

    queue_bytes: int
    min_free_bytes: int
    sync_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Seams:
    """What a writer, or a user's subclass of one, decides about a recording."""

    new_array: Callable[[Recording, ImageLayout], Any]
    write_frame: Callable[[Any, tuple[int, ...], np.ndarray], None]
    finalize_metadata: Callable[[], None]
    cancel: Callable[[WriteError], None]
    ended: Callable[[Path], None] = lambda path: None


# The corridor: every frame's way from the queue through the sinks, on one writing thread.
#
# There is one failure path. Whatever goes wrong in a sink ends the recording: the error is
# remembered, the run is cancelled once, the frames that still come are counted and let go, and
# everything is closed, so that what was written stays readable.


class Corridor:
    """One recording in progress.

    Parameters
    ----------
    path : Path
        The recording's main path, for messages.
    locator : Locator
        Gives every frame its place.
    sinks : sequence of FrameSink
        Fed in this order, and closed in this order.
    queue_bytes : int
        Pixels that may wait in memory.
    on_failure : callable
        Called once, on the writing thread, with the error that ended the recording.
    selection : FrameSelection, optional
        Which frames are kept; by default all.
    """

    def __init__(
        self,
        path: Path,
        locator: Locator,
        sinks: Sequence[FrameSink],
        queue_bytes: int,
        on_failure: Callable[[WriteError], None],
        selection: FrameSelection | None = None,
    ) -> None:
        self._path = path
        self._locator = locator
        self._sinks = sinks
        self._on_failure = on_failure
        self._selection = selection
        self._queue = FrameQueue(queue_bytes)
        self._settled = threading.Condition()
        self._taken = 0
        self._settled_up_to = 0
        self._settle_wanted = False
        self.error: WriteError | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"mda-writers {path.name}", daemon=True
        )

    # ------------------------------------------------------------ the caller's threads

    def open(self) -> None:
        """Open the sinks, and start the writing thread.

        Raises
        ------
        WriteError
            If a sink cannot begin; those before it are closed again.
        """
        for number, sink in enumerate(self._sinks):
            try:
                sink.open()
            except BaseException:
                for opened in self._sinks[: number + 1]:
                    self._close_sink(opened)
                raise
        self._thread.start()

    def put(self, frame: Frame, while_waiting: Callable[[], None] | None = None) -> None:
        """Hand over a frame: waits while the queue is full, returns at once after a failure.

        Raises
        ------
        WriteError
            If the recording was ended by another thread.
        """
        if not self._queue.put(frame, while_waiting):
            raise WriteError(
                f"{self._path}: the recording was ended while a frame was handed over. That frame "
                "was not written; end a recording only when nobody adds frames any more."
            )

    def settle(self) -> None:
        """Return when every frame handed over so far is in its file, or the recording failed."""
        with self._settled:
            goal = self.frames_received
            self._settle_wanted = True
            self._settled.wait_for(
                lambda: self.error or self._settled_up_to >= goal or not self._thread.is_alive()
            )
            self._settle_wanted = False

    def close(self) -> None:
        """Drain the queue, close the sinks, end the thread. There is no time-out."""
        self._queue.close()
        if self._thread.ident is not None:
            self._thread.join()

    def fail(self, error: WriteError) -> None:
        """End the recording with `error`; the first one is remembered."""
        if self.error is None:
            self.error = error
            self._queue.close_to_frames()
            self._on_failure(error)
        with self._settled:
            self._settled.notify_all()

    @property
    def frames_received(self) -> int:
        """Frames handed over so far."""
        return self._queue.received

    @property
    def queued_bytes(self) -> int:
        """Bytes of the frames that wait for the writing thread."""
        return self._queue.nbytes

    # ------------------------------------------------------------ the writing thread

    def _run(self) -> None:
        nothing_left = True
        while (frames := self._queue.get_all(None if nothing_left else LOOK_AGAIN_S)) is not None:
            self._write_all(frames)
            # pushing on what is gathered makes small writes: only with nothing better to do
            nothing_left = not frames and self._push_on()
            while self._settle_wanted and not nothing_left:
                time.sleep(LOOK_AGAIN_S)
                nothing_left = self._push_on()
        for sink in self._sinks:
            self._close_sink(sink)
        with self._settled:
            self._settled.notify_all()

    def _write_all(self, frames: deque[Frame]) -> None:
        """Write frames, and let go of each: its memory is another frame's now."""
        written = 0
        while frames:
            frame = frames.popleft()
            self._write(frame)
            written += frame.nbytes
            if written >= RELEASE_BYTES or not frames:
                self._queue.done(written)
                written = 0

    def _write(self, frame: Frame) -> None:
        number, self._taken = self._taken, self._taken + 1
        if self.error is not None:
            return
        try:
            saved = self._selection is None or self._selection.keeps(frame, number)
            if saved and frame.unfit:
                raise FrameError(frame.unfit)
            place = self._locator.locate(frame, saved)
            placed = PlacedFrame(frame, place, _plain(frame.pixels), number, saved)
            for sink in self._sinks:
                sink.write(placed)
        except BaseException as error:
            self.fail(self._explained(error))

    def _push_on(self) -> bool:
        """Let the sinks push on what they hold; True when nothing is left in any of them."""
        if self.error is not None:
            return True
        try:
            nothing_left = False not in [sink.flush() for sink in self._sinks]
        except BaseException as error:
            self.fail(self._explained(error))
            return True
        if nothing_left:
            with self._settled:
                self._settled_up_to = self._taken
                self._settled.notify_all()
        return nothing_left

    def _close_sink(self, sink: FrameSink) -> None:
        try:
            sink.close()
        except BaseException as error:
            self.fail(self._explained(error))

    def _explained(self, error: BaseException) -> WriteError:
        return as_write_error(
            error, self._path, "writing failed", "Frames written before are kept."
        )


def _plain(pixels: np.ndarray) -> np.ndarray:
    """Return `pixels` C-contiguous and little-endian, as files hold them; copied only if not."""
    if pixels.dtype.byteorder == ">" or (pixels.dtype.byteorder == "=" and sys.byteorder == "big"):
        pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    return np.ascontiguousarray(pixels)


class ArraySink:
    """Makes the arrays, and gives each frame to its own.

    Parameters
    ----------
    locator : Locator
        Knows the images.
    arrays : dict
        Key → array; filled here, shared with whoever reads.
    new_array, discard : callable
        Make the array of an image; remove what was made for an image that no frame came for.
    write_frame : callable
        ``write_frame(array, index, pixels)``.
    table : FrameTable
        Is told of every image, so that the journal is complete.
    pool : WritePool or None
        Takes the pixels to the disk, for formats that use one.
    """

    def __init__(
        self,
        locator: Locator,
        arrays: dict[str, Any],
        new_array: Callable[[ImageLayout], Any],
        discard: Callable[[ImageLayout], None],
        write_frame: Callable[[Any, tuple[int, ...], np.ndarray], None],
        table: FrameTable,
        pool: WritePool | None,
    ) -> None:
        self._locator = locator
        self._arrays = arrays
        self._new_array = new_array
        self._discard = discard
        self._write_frame = write_frame
        self._table = table
        self._pool = pool
        self._announced: dict[str, tuple[Any, ...]] = {}
        self._made: dict[str, ImageLayout] = {}

    def open(self) -> None:
        """Lay out every image whose frames are known beforehand: before the first exposure."""
        for image in self._locator.images:
            if image.frame_shape and image.dtype:
                self._make(image)

    def write(self, placed: PlacedFrame) -> None:
        """Give a frame to its array, if it is kept."""
        if not placed.saved:
            return
        key = placed.place.key
        image = self._locator.image(key)
        made = self._made.get(key)
        if made is None:
            self._make(image)
        elif made is not image:
            self._follow(made, image)
        array = self._arrays[key]
        # for formats that keep the time of a frame; those of a user know nothing of it
        getattr(array, "expect", _nothing)(placed.frame)
        self._write_frame(array, placed.place.index, placed.pixels)
        # for formats that hand over files while the run goes on
        getattr(array, "take_landed", _nothing)(self._table.journalled)
        if image.growing:
            self._announce(image, array)

    def flush(self) -> bool:
        """Send on what is gathered, and let arrays see what has landed."""
        nothing_left = self._pool.flush() if self._pool else True
        for array in self._arrays.values():
            if getattr(array, "take_landed", _nothing)(self._table.journalled):
                nothing_left = False
        return nothing_left

    def close(self) -> None:
        """Close every array, whatever becomes of the others.

        The pool comes first: what it still has under way opens files that were closed.
        """
        if self._pool:
            self._pool.close()
        errors = []
        for array in self._arrays.values():
            try:
                getattr(array, "close", getattr(array, "flush", _nothing))()
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _make(self, image: ImageLayout) -> None:
        self._arrays[image.key] = array = self._new_array(image)
        self._made[image.key] = image
        self._announce(image, array)

    def _follow(self, made: ImageLayout, image: ImageLayout) -> None:
        """Take in that an image is no longer what it was made for."""
        if (made.frame_shape, made.dtype) != (image.frame_shape, image.dtype):
            self._unmake(made)
            self._make(image)
        self._made[image.key] = image

    def _unmake(self, image: ImageLayout) -> None:
        """Take back an array that the first frame turned out not to fit; it is still empty."""
        getattr(self._arrays.pop(image.key), "close", _nothing)()
        self._discard(image)

    def _announce(self, image: ImageLayout, array: Any) -> None:
        """Tell the journal of a new image, of more room, of a channel that got its name."""
        planes = getattr(array, "planes", 0)
        known = (image.channels, image.frame_shape, image.dtype, planes)
        if self._announced.get(image.key) != known:
            self._announced[image.key] = known
            self._table.announce(image, planes)


def _nothing(*_: Any) -> None:
    """Stand in for what an array of a user's own does not have."""
