"""A recording from its first frame to its end: files laid out, frames written by one thread."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers._version import __version__
from mda_writers.errors import FrameError, WriteError
from mda_writers.formats.base import ForeignArray, FrameArray
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
from mda_writers.recording.journal_writer import JournalWriter
from mda_writers.recording.max_projection import ImageFiles, ProjectionWriter, free_folder
from mda_writers.recording.replaced import Replaced
from mda_writers.storage.disk_space import as_write_error, explained
from mda_writers.storage.files import this_process

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mda_writers.formats.base import Format
    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.locate import Locator
    from mda_writers.model.options import FrameSelection, MaxProjection
    from mda_writers.model.report import RecordingReport


_INCOMPLETE = "the recording could not be completed"
_WAY_OUT = "Its pixels and its journal are on disk; `mda-writers recover` completes it."

GIVE_UP_S = 5.0
"""How long to wait for the threads of a recording whose end was given up. A write that hangs in
the system cannot be stopped; they keep the lock until it returns."""

RELEASE_BYTES = 1 << 20
"""Bytes that are taken off the queue's account at once; a lock per frame is dear for small ones."""

_LITTLE = "|<=" if sys.byteorder == "little" else "|<"

LOOK_AGAIN_S = 0.002
"""While pixels are on their way and no frame comes: how often to see whether they have landed."""


@dataclass(slots=True)
class _Made:
    """An array that frames go into."""

    array: FrameArray
    target: Any  # what the writer's ``new_array`` returned, and its ``write_frame`` gets
    image: ImageLayout  # what it was made for, or has followed since
    announced: tuple[Any, ...] = ()


# There is one failure path. Whatever goes wrong on the writing thread ends the recording: the
# error is remembered, the run is cancelled once, the frames that still come are counted and let
# go, and everything is closed, so that what was written stays readable.


@dataclass(slots=True)
class Recording:
    """One recording: files laid out, frames written by one thread, ended from its journal.

    What belongs to it lives here and ends with it.
    """

    path: Path  # the main path; its journal must not exist
    fmt: Format
    locator: Locator
    layout: Layout  # its images come from the locator
    header: Mapping[str, Any]  # what the journal's first line says besides the layout
    # what the writer, or a user's subclass of one, decides
    new_array: Callable[[str, np.dtype, dict[str, int]], Any]
    write_frame: Callable[[Any, tuple[int, ...], np.ndarray], None]
    finalize_metadata: Callable[[], None]
    cancel: Callable[[WriteError], None]  # called once, with what ended the recording
    ended: Callable[[Path], None]
    # what it may use; see ``MDAWriter``
    queue_bytes: int
    min_free_bytes: int
    sync_ms: float | None = None
    selection: FrameSelection | None = None
    projection: MaxProjection | None = None
    replaces: bool = False  # whether a recording of that name gives way, once this has a frame
    set_id: str = ""
    arrays: dict[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    extra_metadata: dict[str, Any] = field(default_factory=dict)
    report: RecordingReport | None = None
    error: WriteError | None = None  # why it ends too early; what came is written nevertheless
    pool: Any = field(init=False, default=None)
    projections: ProjectionWriter | None = field(init=False, default=None)
    _replaced: Replaced | None = field(init=False, default=None)
    _queue: FrameQueue = field(init=False)
    _guard: DiskGuard = field(init=False)
    _journal: JournalWriter = field(init=False)
    _made: dict[str, _Made] = field(init=False, default_factory=dict)
    _files: set[str] = field(init=False, default_factory=set)
    _is_new: bool = field(init=False, default=False)
    _thread: threading.Thread = field(init=False)
    _taken: int = field(init=False, default=0)
    _settled: threading.Condition = field(init=False, default_factory=threading.Condition)
    _settled_up_to: int = field(init=False, default=0)
    _settle_wanted: bool = field(init=False, default=False)
    _broken: WriteError | None = field(init=False, default=None)  # nothing is written after it
    _finished: threading.Event = field(init=False, default_factory=threading.Event)
    _finish_lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _interrupts: int = field(init=False, default=0)
    _interrupt: BaseException | None = field(init=False, default=None)
    _given_up_at: float | None = field(init=False, default=None)
    _started: float = field(init=False, default_factory=time.perf_counter)

    # ------------------------------------------------------------ the beginning

    def open(self) -> None:
        """Check the disk, write the journal's header, lay out all files, start writing.

        Raises
        ------
        WriteError
            If the recording cannot begin; nothing of it is left behind.
        """
        if self.selection is not None:
            self.selection.check(self.locator.frames_expected)
            self.layout = replace(self.layout, selective=True)
        self._check_space()
        self._replaced = Replaced.if_any(self.path) if self.replaces else None
        self._is_new = not self.path.exists()
        self._queue = FrameQueue(self.queue_bytes)
        self._thread = threading.Thread(
            target=self._run, name=f"mda-writers {self.path.name}", daemon=True
        )
        try:
            self._journal = JournalWriter(self.path, self.sync_ms)
        except BaseException:
            self._put_back()
            raise
        try:
            if self.projection is not None:
                files = ImageFiles(self.layout, self.projection.preview)
                folder = free_folder(self.path)
                self.projections = ProjectionWriter(folder, self.projection, self.locator, files)
            self._journal.begin(self._header())
            self.pool = self._journal.pool = self.fmt.new_pool()
            self.pool.durable = self.sync_ms is not None
            is_open = self.locator.open_ended or self.layout.selective
            self._guard = DiskGuard(
                self.path.parent,
                self.min_free_bytes,
                claimed=self.fmt.claims_room and not is_open,
                bytes_under_way=self._bytes_to_come,
            )
            self._lay_out()
            self._thread.start()
        except BaseException as error:
            self._leave_nothing()
            if isinstance(error, OSError):
                raise explained(error, self.path) from error
            raise

    def _check_space(self) -> None:
        if self.layout.selective or self.fmt.shrinks:
            return  # how much will be kept is not known; the guard watches the disk instead
        images = [image for image in self.locator.images if image.frame_shape]
        nbytes = sum(map(self.fmt.disk_bytes, images))
        if self.projection is not None:
            nbytes += sum(map(self.projection.disk_bytes, images))
        frames = self.locator.frames_expected or 0
        DiskGuard.check(self.path.parent, nbytes, frames, self.min_free_bytes)

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

    def _lay_out(self) -> None:
        """Lay out every image whose frames are known beforehand: before the first exposure."""
        try:
            for image in self.locator.images:
                if image.frame_shape and image.dtype:
                    self._make(image)
            if self.projections is not None:
                self.projections.open()
        except BaseException:
            self._close_one(self._close_arrays)
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

    # ------------------------------------------------------------ the caller's threads

    def put(self, frame: Frame, while_waiting: Callable[[], None] | None = None) -> None:
        """Hand over a frame: waits while the queue is full, returns at once after a failure.

        Raises
        ------
        WriteError
            If the recording was ended by another thread.
        """
        if not self._queue.put(frame, while_waiting):
            raise WriteError(
                f"{self.path}: the recording was ended while a frame was handed over. That frame "
                "was not written; end a recording only when nobody adds frames any more."
            )

    def settle(self) -> None:
        """Return when every frame handed over so far is in its file, or the recording failed."""
        if self._finished.is_set():
            return
        with self._settled:
            goal = self.frames_received
            self._settle_wanted = True
            self._settled.wait_for(
                lambda: self._broken or self._settled_up_to >= goal or not self._thread.is_alive()
            )
            self._settle_wanted = False

    def fail(self, error: WriteError) -> None:
        """End the recording with `error`; the first one is remembered. What is on disk stays."""
        if self._broken is None:
            self._broken = error
            self._queue.close_to_frames()
            self.cancel(error)
        with self._settled:
            self._settled.notify_all()

    def cancel_softly(self, error: WriteError) -> None:
        """Cancel the run because of `error`, and still write every frame that was acquired."""
        if self.error is None:
            self.end_with(error)
            self.cancel(error)

    def end_with(self, error: WriteError) -> None:
        """Say why the recording ends too early; every frame handed over is still written."""
        self.error = self.error or error

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
        self._close_all()
        with self._settled:
            self._settled.notify_all()

    def _write_all(self, frames: deque[Frame]) -> None:
        """Write frames, and let go of each: its memory is another frame's now."""
        written = 0
        while frames:
            frame = frames.popleft()
            self._write(frame)
            written += frame.pixels.nbytes
            if written >= RELEASE_BYTES or not frames:
                self._queue.done(written)
                written = 0

    def _write(self, frame: Frame) -> None:
        """Guard, pixels, journal line, in this order; the line is due when the pixels landed."""
        number, self._taken = self._taken, self._taken + 1
        if self._broken is not None:
            return
        try:
            kept = self.selection is None or self.selection.keeps(frame, number)
            if kept and frame.unfit:
                raise FrameError(frame.unfit)
            image, place = self.locator.locate(frame, kept)
            pixels = frame.pixels
            if not (pixels.flags.c_contiguous and pixels.dtype.byteorder in _LITTLE):
                pixels = _plain(pixels)
            self._guard.account(number, pixels.nbytes if kept else 0)
            where = self._store(image, place, frame, pixels) if kept else None
            self._journal.add(number, image.key, place, frame, pixels, where)
            if time.perf_counter() >= self._journal.load_due:
                self._journal.note_load(self._queue.nbytes)
            if self.projections is not None:
                self.projections.add(image, place, pixels, kept)
            if self._replaced is not None:
                self._let_go_of_replaced()
        except BaseException as error:
            self.fail(self._explained(error))

    def _store(
        self, image: ImageLayout, place: tuple[int, ...], frame: Frame, pixels: np.ndarray
    ) -> Mapping[str, Any]:
        """Give a frame to its array; return where in the files it is."""
        made = self._made.get(image.key)
        if made is None or made.image is not image:
            made = self._array_for(image)
        array = made.array
        array.expect(frame)
        self.write_frame(made.target, place, pixels)
        array.take_landed(self._journal.journalled)
        if image.growing:
            self._announce(made)
        return array.where(place)

    def _push_on(self) -> bool:
        """Push on what is held back, without waiting; True when nothing is left."""
        if self._broken is not None:
            return True
        try:
            nothing_left = self.pool.flush()
            for made in self._made.values():
                if made.array.take_landed(self._journal.journalled):
                    nothing_left = False
            nothing_left &= self._journal.flush()
            if self.projections is not None:
                nothing_left &= self.projections.flush()
            self._let_go_of_replaced()
        except BaseException as error:
            self.fail(self._explained(error))
            return True
        if nothing_left:
            with self._settled:
                self._settled_up_to = self._taken
                self._settled.notify_all()
        return bool(nothing_left)

    def _let_go_of_replaced(self) -> None:
        if self._replaced is not None and self._journal.frames_written:
            self._replaced.let_go()

    def _close_all(self) -> None:
        self._close_one(self._close_arrays)
        self._close_one(self._journal.close)
        if self.projections is not None:
            self._close_one(self.projections.close)
        if self._replaced is not None:
            self._close_one(self._let_go_of_replaced)
            self._close_one(self._replaced.close)

    def _close_one(self, close: Callable[[], None]) -> None:
        try:
            close()
        except BaseException as error:
            self.fail(self._explained(error))

    def _close_arrays(self) -> None:
        """Close every array, whatever becomes of the others.

        The pool comes first: what it still has under way opens files that were closed.
        """
        self.pool.close()
        errors = []
        for made in self._made.values():
            try:
                made.array.close()
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _explained(self, error: BaseException) -> WriteError:
        return as_write_error(error, self.path, "writing failed", "Frames written before are kept.")

    def _bytes_to_come(self) -> int:
        """Return the room that frames handed over before may still take.

        The sidecar, which becomes as large as the journal is, is written beside it.
        """
        under_way: int = self.pool.bytes_under_way()
        return under_way + journal_path(self.path).stat().st_size

    # ------------------------------------------------------------ arrays

    def _array_for(self, image: ImageLayout) -> _Made:
        """Return the array of an image that is new, or is no longer what it was made for."""
        made = self._made.get(image.key)
        if made is None:
            return self._make(image)
        before, made.image = made.image, image
        if (before.frame_shape, before.dtype) == (image.frame_shape, image.dtype):
            return made
        # the first frame did not fit: the array is still empty
        del self.arrays[image.key]
        made.array.close()
        self.fmt.discard(self.path.parent / before.file)
        return self._make(image)

    def _make(self, image: ImageLayout) -> _Made:
        """Make the array of an image, in a file of its own; leave none behind if that fails."""
        file = self.path.parent / image.file
        if image.file not in self._files and file.exists():
            raise WriteError(
                f"{file}: exists, and belongs to another recording. It was not touched; move it, "
                "or choose another name."
            )
        self._files.add(image.file)
        try:
            target = self.new_array(image.key, np.dtype(image.dtype), image.dim_sizes)
        except BaseException:
            with suppress(OSError):
                self.fmt.discard(file)
            raise
        self.arrays[image.key] = target
        array = target if isinstance(target, FrameArray) else ForeignArray(target)
        made = self._made[image.key] = _Made(array, target, image)
        self._announce(made)
        return made

    def _announce(self, made: _Made) -> None:
        """Write down a new image, more room, a channel that got its name."""
        image, planes = made.image, made.array.planes
        known = (image.channels, image.frame_shape, image.dtype, planes)
        if made.announced != known:
            made.announced = known
            self._journal.announce(image, planes)

    # ------------------------------------------------------------ what can be seen of it

    @property
    def gave_way(self) -> bool:
        """Whether the recording that this one was to replace stays: this one has no frame yet."""
        return self._replaced is not None and not self._replaced.is_removed

    @property
    def frames_received(self) -> int:
        """Frames handed over so far."""
        return self._queue.received

    @property
    def frames_written(self) -> int:
        """Frames that are on disk, with their line in the journal."""
        return self._journal.frames_written

    @property
    def failure(self) -> WriteError | None:
        """What went wrong so far."""
        return self.error or self._broken

    def layout_now(self) -> Layout:
        """Return the recording's layout with the images whose frames are known by now."""
        images = tuple(image for image in self.locator.images if image.frame_shape)
        return replace(self.layout, images=images)

    def files(self, image: ImageLayout) -> tuple[str, ...]:
        """Return the names of an image's files so far."""
        made = self._made.get(image.key)
        names = made.array.files if made is not None else None
        return image.all_files if names is None else names

    @property
    def frame_bytes(self) -> int:
        """Bytes of the largest frame known so far."""
        return max((i.frame_bytes for i in self.locator.images if i.frame_shape), default=0)

    @property
    def finishing(self) -> bool:
        """Whether somebody is ending the recording, or has done so."""
        return self._finish_lock.locked() or self._finished.is_set()

    @property
    def finished(self) -> bool:
        """Whether the recording has ended and its report is there."""
        return self._finished.is_set()

    @property
    def given_up(self) -> bool:
        """Whether the end was given up."""
        return self._given_up_at is not None

    # ------------------------------------------------------------ the end

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
        """Note that whoever waits for the end was interrupted: the second time, give up."""
        self._interrupts += 1
        if self._interrupts > 1 and not self.given_up:
            self.give_up()

    def give_up(self) -> None:
        """Write nothing more, and leave what is on disk to `recover`."""
        self._given_up_at = time.monotonic()
        error = WriteError(f"{self.path}: its end was interrupted. {_WAY_OUT}")
        self.end_with(error)
        self.fail(error)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return whether the recording has ended, waiting for it at most `timeout_s`."""
        return self._finished.wait(timeout_s)

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
                self.ended(self.path)
                self._finished.set()

    def _close_and_end(self) -> None:
        while self._interrupts < 3:
            try:
                self._drain()
                self.error = self.error or self._broken
                if not self.given_up:
                    self._end()
                return
            except Exception as error:
                self.error = self.error or as_write_error(error, self.path, _INCOMPLETE, _WAY_OUT)
                return
            except BaseException as interrupt:  # what is done twice is done right
                self._interrupt = self._interrupt or interrupt
                self.interrupt()

    def _drain(self) -> None:
        """Have the rest written and all closed, and the thread ended. There is no time-out."""
        self._queue.close()
        if self._thread.ident is not None:
            self._thread.join()

    def _end(self) -> None:
        """Files, then sidecar, then report; the journal goes when the sidecar has taken over."""
        self._journal.check(self.set_id)
        finished = finish_files(self.path, self.fmt)
        self.locator.keep_only(finished.places)
        self.layout = finished.layout
        if not self.gave_way:
            self.finalize_metadata()
        self.tally.frames_received = self.frames_received
        self.tally.frames_written = self._journal.frames_written
        self.tally.not_saved = self._journal.frames_left_out
        self.tally.bytes_written = self._journal.bytes_written
        self.tally.intervals_s = self._journal.intervals_s
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


def _plain(pixels: np.ndarray) -> np.ndarray:
    """Return `pixels` C-contiguous and little-endian, as files hold them."""
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False))
