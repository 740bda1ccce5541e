"""One operation on one recording: made beside its name, and placed as a whole."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from mda_writers.batch.executor import ALONE, JobResult
from mda_writers.batch.inputs import files_of
from mda_writers.batch.provenance import (
    RECORD_SUFFIX,
    InputFile,
    ProcessRecord,
    plain,
    size_of,
    sizes_of,
    stamp_of,
)
from mda_writers.errors import (
    CorruptRecordingError,
    DiskFullError,
    RecordingError,
    WriteError,
    in_words,
)
from mda_writers.model.frame import are_worth_it
from mda_writers.model.names import OwnNames
from mda_writers.recording.files import recording_path
from mda_writers.recording.journal import is_intact, sealed
from mda_writers.recording.replaced import check_is_recording, find_existing, remove_existing
from mda_writers.storage.disk_space import free_bytes, human_bytes
from mda_writers.storage.files import FileLock, replace_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.batch.executor import Status, Workers


class Operation:
    """Makes results out of recordings. A process inherits from this, and says where it differs.

    Attributes
    ----------
    name : str
        What it is called in the record beside each result.
    busy_alone : bool
        Whether one worker keeps a machine busy: then only a cluster shares a large recording.
    """

    name: ClassVar[str]
    busy_alone: ClassVar[bool] = False

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All that its result depends on besides its inputs, as plain values."""
        return {}

    def further_inputs(self) -> Sequence[Path]:
        """Return files that it reads besides the recordings."""
        return ()

    def can_share(self, inputs: Sequence[Path], output: Path) -> bool:
        """Whether several workers can share the work on these recordings."""
        return False

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Make the file `result`, and any further ones beside it; return a remark, or nothing.

        The result is the same whoever shares the work.

        Raises
        ------
        FaultsFoundError
            If the result was made, and tells of faults.
        Exception
            Saying why it cannot be made.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Job:
    """Makes `output` out of `inputs`.

    Attributes
    ----------
    process : Process
        What is done.
    inputs : tuple of Path
        Recordings, or other files.
    output : Path
        The result's main file.
    overwrite : bool
        Whether something else of that name may be replaced.
    """

    process: Operation
    inputs: tuple[Path, ...]
    output: Path
    overwrite: bool = False

    def run(self, workers: Workers = ALONE) -> JobResult:
        """Do it, unless it was done before; never raises but for an interrupt."""
        return outcome_of(self.output, lambda: self._run(workers))

    def is_shared(self, *, on_cluster: bool) -> bool:
        """Whether it is worth the work of several workers."""
        if self.process.busy_alone and not on_cluster:
            return False
        return are_worth_it(sum(map(size_of, self._files()))) and self.process.can_share(
            self.inputs, self.output
        )

    def _files(self) -> list[Path]:
        mine = [file for path in self.inputs for file in files_of(path)]
        return [*mine, *self.process.further_inputs()]

    def _run(self, workers: Workers) -> tuple[Status, str]:
        begun = time.perf_counter()
        files = self._files()
        work = Staging(self.output)
        with work.held(overwrite=self.overwrite):
            known = ProcessRecord.read(record_path(self.output))
            about = (self.process.name, plain(self.process.parameters))
            if known is not None and known.answers(*about, files, self.output.parent):
                return "failed" if known.faulty else "skipped", known.remark
            (check_replaceable if self.overwrite else check_free)(self.output)
            before = [stamp_of(file) for file in files]
            work.clear()
            inputs = tuple(workers.map(InputFile.of, [(file,) for file in files]))
            remark, faulty = self._make(work.result, workers)
            _check_unchanged(before, files)
            seconds = time.perf_counter() - begun
            work.seal(ProcessRecord(*about, inputs, {}, remark, faulty, seconds))
            work.place(overwrite=self.overwrite)
        return "failed" if faulty else "done", remark

    def _make(self, result: Path, workers: Workers) -> tuple[str, bool]:
        """Make the result; return what is to be said of it, and whether it reports faults."""
        try:
            return self.process.run(self.inputs, result, workers), False
        except FaultsFoundError as error:
            return str(error), True
        except DiskFullError as error:  # what a writer says of its files is not true of these
            free = human_bytes(free_bytes(self.output.parent))
            raise DiskFullError(
                f"{self.output}: the disk is full ({free} free). Nothing of it was kept; free some "
                "space and start again: what is done is skipped."
            ) from error


def outcome_of(output: Path, work: Callable[[], tuple[Status, str]]) -> JobResult:
    """Do some work, and tell what became of it in any case but that of an interrupt."""
    begun = time.perf_counter()
    try:
        status, remark = work()
    except Exception as error:
        reason = in_words(error)
        # the folder in which it was made is gone, and nobody's concern
        reason = reason.replace(str(Staging(output).result.parent), str(output.parent))
        return JobResult(output, "failed", reason, time.perf_counter() - begun)
    return JobResult(output, status, remark, time.perf_counter() - begun)


def _check_unchanged(before: Sequence[tuple[int, int]], files: Sequence[Path]) -> None:
    for stamp, file in zip(before, files, strict=True):
        if not file.exists() or stamp_of(file) != stamp:
            raise WriteError(f"{file}: changed while it was read. Try again when nobody writes it.")


class FaultsFoundError(RecordingError):
    """A result was made as a whole, and what it tells is that something is wrong.

    It is kept, and its job counts as failed.
    """


class Staging:
    """The folder in which a result is made: ``.<name>.making`` beside it.

    Made whole, a result is *sealed*: its record is in the folder. From then on it is only put in
    place, which a process that is killed meanwhile leaves for the next one to complete.

    Parameters
    ----------
    output : Path
        Where the result goes.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.making")
        self.result = self.folder / "result" / output.name
        self._lock_file = self.folder / "lock"
        self._sealed = self.folder / "sealed.json"
        self._room_made = self.folder / "room_made"

    @contextmanager
    def held(self, *, overwrite: bool = False) -> Iterator[None]:
        """Keep others from it for the block; complete first what a killed process had sealed.

        Afterwards nothing is left but the result.

        Raises
        ------
        BlockingIOError
            If another process is making the same result.
        FileExistsError
            See `place`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file.touch()
        lock = self._lock()
        try:
            if self._sealed.exists():
                self.place(overwrite=overwrite)
            yield
        finally:
            if lock is not None and sys.platform == "win32":
                lock.release()  # no file that is open is removed there
            if not self._sealed.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
            if lock is not None:
                lock.release()

    def clear(self) -> None:
        """Begin without what a killed process left."""
        self._room_made.unlink(missing_ok=True)
        shutil.rmtree(self.result.parent, ignore_errors=True)
        self.result.parent.mkdir()

    def seal(self, record: ProcessRecord) -> ProcessRecord:
        """Say that the result is whole; return its record, which names its files."""
        self._tell_its_place()
        record = replace(record, outputs=sizes_of(self._made()))
        record.write(self._sealed)
        return record

    def place(self, *, overwrite: bool = False) -> None:
        """Put a sealed result in place; its record comes last.

        Raises
        ------
        FileExistsError
            If there is something else in the place of one of its files.
        """
        if not self._room_made.exists():
            if overwrite:
                remove_result(self.output)
            self._check_room()
            self._room_made.touch()
        for path in self._made():
            path.replace(self.output.parent / path.name)
        self._sealed.replace(record_path(self.output))

    def _check_room(self) -> None:
        for path in self._made():
            target = self.output.parent / path.name
            if target.exists() or target.is_symlink():
                self._sealed.unlink()  # what was made can be made again
                raise FileExistsError(_taken(target))

    def _made(self) -> list[Path]:
        """Return the files of the result, what describes them last."""
        beside = f"{self.output.name}_"
        return sorted(
            self.result.parent.iterdir(), key=lambda p: (p.name.startswith(beside), p.name)
        )

    def _tell_its_place(self) -> None:
        """Have the report of a recording name its files where they will be."""
        report = recording_path(self.result)
        if not report.exists():
            return
        here, there = str(self.result.parent), str(self.output.parent)
        text = report.read_bytes()
        if not is_intact(text.rstrip()):  # it is sealed anew below: that must not hide anything
            raise CorruptRecordingError(f"{report}: altered since it was written. Try again.")
        content = orjson.loads(text)
        content.pop("seal", None)
        told = content["report"]
        told["path"] = there + told["path"].removeprefix(here)
        told["paths"] = [there + path.removeprefix(here) for path in told["paths"]]
        replace_bytes(report, sealed(orjson.dumps(content)) + b"\n")

    def _lock(self) -> FileLock | None:
        try:
            return FileLock(self._lock_file)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"{self.output}: being made by another process. Wait for that one."
            ) from error
        except OSError:
            return None  # a file system without locks


def record_path(output: Path) -> Path:
    """Return where the record of a result is."""
    return output.with_name(output.name + RECORD_SUFFIX)


def check_free(output: Path) -> None:
    """Refuse a name that is taken.

    Raises
    ------
    FileExistsError
        If there is a result, or anything else, of that name.
    """
    record = ProcessRecord.read(record_path(output))
    before = [output.parent / name for name in record.outputs] if record else []
    for path in (*find_existing(output), *before):
        if path.exists() or path.is_symlink():
            raise FileExistsError(_taken(path))


def check_replaceable(output: Path) -> None:
    """Refuse to replace a folder that is neither a result nor a recording.

    Raises
    ------
    FileExistsError
        If it is somebody else's.
    """
    if output.is_dir() and ProcessRecord.read(record_path(output)) is None:
        check_is_recording(output)


def remove_result(output: Path) -> None:
    """Remove a result with all of its files, its record first."""
    check_replaceable(output)
    record = ProcessRecord.read(record_path(output))
    names = OwnNames(output.name, output)  # a record is to be trusted no more than other metadata
    files = [output.parent / names.now(name) for name in (record.outputs if record else ())]
    record_path(output).unlink(missing_ok=True)
    remove_existing(output)
    for path in files:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _taken(path: Path) -> str:
    return (
        f"{path}: exists, and is not what would be made now: other inputs, parameters or another "
        "version. Nothing was changed; choose another name, or pass overwrite=True (--overwrite)."
    )
