"""One recording from its first frame to its report."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mda_writers._version import __version__
from mda_writers.errors import WriteError
from mda_writers.formats.image_files import ImageFiles
from mda_writers.recording.array_sink import ArraySink
from mda_writers.recording.corridor import Corridor
from mda_writers.recording.finalize import finish_files
from mda_writers.recording.journal_keeper import JournalKeeper
from mda_writers.recording.replaced import Replaced, ReplacedSink
from mda_writers.recording.reporting import Tally, build_report, lost_frames, write_report
from mda_writers.sinks.disk_guard import DiskGuard
from mda_writers.sinks.frame_table import FrameTable
from mda_writers.sinks.load_log import LoadLog
from mda_writers.sinks.max_projection import ProjectionSink
from mda_writers.sinks.projection_names import free_folder
from mda_writers.sinks.sidecar import journal_path
from mda_writers.storage.failure import as_write_error, explained
from mda_writers.storage.lock import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mda_writers.formats.format import Format
    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.locate import Locator
    from mda_writers.model.projection import MaxProjection
    from mda_writers.model.protocols import FrameSink
    from mda_writers.model.report import RecordingReport
    from mda_writers.model.selection import FrameSelection
    from mda_writers.recording.seams import Limits, Seams
    from mda_writers.sinks.line_file import LineFile


_INCOMPLETE = "the recording could not be completed"
_WAY_OUT = "Its pixels and its journal are on disk; `mda-writers recover` completes it."

GIVE_UP_S = 5.0
"""How long to wait for the threads of a recording whose end was given up. A write that hangs in
the system cannot be stopped; they keep the lock until it returns."""


@dataclass(slots=True)
class Run:
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
