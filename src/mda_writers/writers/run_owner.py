"""What every way of using a writer stands on: runs that are begun, ended, and cancelled."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import uuid
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mda_writers._upstream import OMETiffWriter
from mda_writers.errors import UnknownOptionError, WriteError, option_names
from mda_writers.model.names import check_name, split_suffix
from mda_writers.model.projection import MaxProjection
from mda_writers.model.selection import FrameSelection
from mda_writers.recording.replaced import check_own, find_existing
from mda_writers.recording.run import Run
from mda_writers.recording.seams import Limits, Seams
from mda_writers.sinks.sidecar import journal_path, sidecar_path, write_sidecar
from mda_writers.storage.failure import as_write_error
from mda_writers.writers.existing import free_path
from mda_writers.writers.relay import Backlog, cancel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pymmcore_plus import CMMCorePlus
    from useq import MDASequence

    from mda_writers.formats.format import Format
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.locate import Locator
    from mda_writers.model.protocols import RecordingWatcher
    from mda_writers.model.selection import Decide
    from mda_writers.writers.direct import DirectPlan

QUEUE_BYTES = 256 << 20
"""Default of ``queue_bytes``: a tenth of a second of a 2.5 GB/s camera, and small beside the
memory of an acquisition computer."""

MIN_FREE_BYTES = 1 << 20
"""Default of ``min_free_bytes``: what the last lines of a journal need on a full disk."""


class RunOwner(OMETiffWriter):
    """Owns the run of a writer; its parameters are described at `MDAWriter`."""

    suffixes: ClassVar[tuple[str, ...]] = ()

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
        self.watcher: RecordingWatcher | None = None
        self.path = Path(filename).expanduser().absolute()
        self._overwrite = overwrite
        self._limits = Limits(
            _positive("queue_bytes", queue_bytes),
            _natural("min_free_bytes", min_free_bytes),
            None if sync_ms is None else _positive("sync_ms", sync_ms),
        )
        self._selection = None if save_frame is None else FrameSelection(save_frame)
        self._projection = MaxProjection.of(max_projection)
        self._core = None if core is None else weakref.ref(core)
        self._run: Run | None = None
        self._making: Run | None = None
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
        ours = makers[: makers.index(RunOwner.__init__) + 1]
        return set().union(*map(option_names, ours))

    # ------------------------------------------------------------ seams for subclasses

    def write_frame(self, ary: Any, index: tuple[int, ...], frame: np.ndarray) -> None:
        """Write one frame into its array; called on the writing thread."""
        ary[index] = frame

    def finalize_metadata(self) -> None:
        """Write the sidecar from the journal, at the end of a recording."""
        run = self._run
        if run is not None:
            write_sidecar(journal_path(run.path), sidecar_path(run.path), run.extra_metadata)

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

    def make_array(self, run: Run, image: ImageLayout) -> Any:
        """Return the array for one image; calls ``new_array``, upstream's seam."""
        self._making = run
        return self.new_array(image.key, np.dtype(image.dtype), image.dim_sizes)

    def format(self, set_id: str) -> Format:
        """Return how this writer's files begin, and get their final form.

        Parameters
        ----------
        set_id : str
            A UUID of the recording.
        """
        raise NotImplementedError

    # ------------------------------------------------------------ helpers

    def _current_run(self) -> Run:
        """Return the run that arrays are made for; while it opens, nobody else sees it yet."""
        run = self._making or self._run
        if run is None:
            raise WriteError(f"{self.path}: nothing was begun yet.")
        return run

    def _check_suffix(self) -> None:
        if split_suffix(self.path.name)[1].lower() not in self.suffixes:
            raise ValueError(
                f"{self.path.name}: {type(self).__name__} writes {', '.join(self.suffixes)}. "
                "Give the file one of these suffixes."
            )

    def _begin_run(self, locator: Locator, layout: Layout, header: Mapping[str, Any]) -> None:
        path = self._next_path()
        try:
            check_name(path.name)  # a later run's is numbered
        except ValueError as error:
            raise WriteError(str(error)) from error
        replaces = self._overwrite and self._runs == 0
        set_id = str(uuid.uuid4())
        run = Run(
            path=path,
            fmt=self.format(set_id),
            set_id=set_id,
            locator=locator,
            layout=layout,
            limits=self._limits,
            seams=Seams(
                self.make_array,
                self.write_frame,
                self.finalize_metadata,
                self._cancel,
                self._tell_end,
            ),
            header=header,
            selection=self._selection,
            projection=self._projection,
            replaces=replaces,
        )
        run.open()
        self._runs += 1
        self._run = run
        self.position_arrays = run.arrays
        if self.watcher is not None:
            self.watcher.begun(path)

    def _next_path(self) -> Path:
        """Return the recording's path: the given one, and for later runs the next free name."""
        if self._runs == 0 and self._overwrite:
            return self.path
        return free_path(self.path)

    def _cancel(self, error: WriteError) -> None:
        """Cancel the run that feeds us, that one alone; called once, on the writing thread."""
        if self._direct is not None:
            return  # the caller's own loop is told by add_frame
        if self._backlog.runner is None:
            error.args = (f"{error} {_RUN_UNKNOWN}",)
        cancel(self._backlog.runner)

    def _cancel_run(self) -> None:
        """Cancel the run whose frames are being recorded, where it is known."""
        if self._run is not None and not self._run.finished and self._direct is None:
            cancel(self._backlog.runner)

    def _tell_end(self, path: Path) -> None:
        if self.watcher is not None:
            self.watcher.ended(path)

    @property
    def _own_core(self) -> CMMCorePlus | None:
        """The core that the writer is connected to, or was given."""
        return self._core() if self._core else None

    @property
    def _place(self) -> object:
        """What only one writer at a time can write to."""
        return os.path.normcase(self.path.resolve())

    def _finish_open_run(self, reason: str) -> None:
        run = self._run
        if run is not None and not (run.finished or run.given_up):
            run.end_with(WriteError(f"{run.path}: {reason}. Every frame that came is kept."))
            run.finish()

    def _interrupt_wait(self) -> None:
        """Take in that who waits for the run was interrupted; see ``Run.interrupt``."""
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

    @contextmanager
    def _never_raising(self) -> Iterator[None]:
        """Keep a hook from raising: upstream, that would silence every handler of the run."""
        try:
            yield
        except BaseException as error:
            wrapped = as_write_error(error, self.path, "a hook failed")
            if not isinstance(error, Exception):  # Ctrl-C: raised by whoever waits for the end
                self._interrupted = self._interrupted or error
                self._interrupt_wait()
                if self._run is not None and not self._run.finished:
                    self._run.cancel_softly(wrapped)
                return
            if self._run is not None and not self._run.finished:
                self._run.fail(wrapped)
                return
            self._refused = self._refused or wrapped
            self._cancel(wrapped)


_RUN_UNKNOWN = (
    "It is not known which run feeds this writer, so none was cancelled: stop it yourself. "
    "record(), run_mda(output=…) and writer.connected(core) know."
)

_open_writers: weakref.WeakSet[RunOwner] = weakref.WeakSet()


def _forget_parents_runs() -> None:
    for writer in list(_open_writers):
        writer._forget_run()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_runs)


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
