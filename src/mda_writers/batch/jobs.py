"""One operation on one recording: made beside its name, and placed as a whole."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import orjson

from mda_writers._version import __version__
from mda_writers.batch.executor import JobResult, LostWorkersError
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

    from mda_writers.batch.executor import Crew, Status
    from mda_writers.model.frame import FrameRange


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

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Make the file `result`, and any further ones beside it; return a remark, or nothing.

        Raises
        ------
        FaultsFoundError
            If the result was made, and tells of faults.
        Exception
            Saying why it cannot be made.
        """
        raise NotImplementedError

    def parts(self, inputs: Sequence[Path], output: Path) -> list[FrameRange]:
        """Return the parts in which it can be done; none if it is done as a whole."""
        return []

    def run_part(self, inputs: Sequence[Path], part: FrameRange, target: Path) -> None:
        """Make one part: the file or folder `target`. Asked of a process with parts only."""
        raise NotImplementedError

    def join(
        self, inputs: Sequence[Path], parts: Sequence[tuple[FrameRange, Path]], result: Path
    ) -> str:
        """Make the result out of its parts, the same that `run` makes, bit for bit."""
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

    def run(self) -> JobResult:
        """Do it, unless it was done before; never raises but for an interrupt."""
        return outcome_of(self.output, lambda: self._run(make_whole))

    def parts(self, *, on_cluster: bool) -> list[FrameRange]:
        """Return the parts that are worth the work of several; none if it is done as a whole."""
        if self.process.busy_alone and not on_cluster:
            return []
        if not are_worth_it(sum(map(size_of, self._files()))):
            return []
        return self.process.parts(self.inputs, self.output)

    def run_in_parts(self, parts: Sequence[FrameRange], crew: Crew) -> JobResult:
        """Do the same by many hands; the result is the same, too."""
        return outcome_of(self.output, lambda: self._run(make_in_parts(parts, crew)))

    def _files(self) -> list[Path]:
        mine = [file for path in self.inputs for file in files_of(path)]
        return [*mine, *self.process.further_inputs()]

    def _run(self, make: Make) -> tuple[Status, str]:
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
            made = _kept_off_full_disks(self.output, lambda: make(self, files, work))
            _check_unchanged(before, files)
            seconds = time.perf_counter() - begun
            work.seal(ProcessRecord(*about, made.inputs, {}, made.remark, made.faulty, seconds))
            work.place(overwrite=self.overwrite)
        return "failed" if made.faulty else "done", made.remark


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


def _kept_off_full_disks(output: Path, make: Callable[[], Made]) -> Made:
    """Make the result; what a writer says of its files on a full disk is not true of this one."""
    try:
        return make()
    except DiskFullError as error:
        free = human_bytes(free_bytes(output.parent))
        raise DiskFullError(
            f"{output}: the disk is full ({free} free). Nothing of it was kept; free some "
            "space and start again: what is done is skipped."
        ) from error


def _check_unchanged(before: Sequence[tuple[int, int]], files: Sequence[Path]) -> None:
    for stamp, file in zip(before, files, strict=True):
        if not file.exists() or stamp_of(file) != stamp:
            raise WriteError(f"{file}: changed while it was read. Try again when nobody writes it.")


class FaultsFoundError(RecordingError):
    """A result was made as a whole, and what it tells is that something is wrong.

    It is kept, and its job counts as failed.
    """


@dataclass(frozen=True, slots=True)
class Made:
    """A result that was made: from what, and what is to be said of it.

    `faulty` if it tells of faults.
    """

    inputs: tuple[InputFile, ...]
    remark: str
    faulty: bool


def make_whole(job: Job, files: Sequence[Path], work: Staging) -> Made:
    """Make a result in one go."""
    work.clear()
    inputs = tuple(map(InputFile.of, files))
    return Made(inputs, *_told(lambda: job.process.run(job.inputs, work.result)))


def make_in_parts(parts: Sequence[FrameRange], crew: Crew) -> Make:
    """Return what makes a result in these parts."""

    def make(job: Job, files: Sequence[Path], work: Staging) -> Made:
        work.clear(_plan(job, files, parts))
        targets = [work.parts / str(number) for number in range(len(parts))]
        found = crew.do(
            [
                *((InputFile.of, file) for file in files),
                *(
                    (_make_part, job.process, job.inputs, part, target)
                    for part, target in zip(parts, targets, strict=True)
                ),
            ]
        )
        pairs = list(zip(parts, targets, strict=True))
        ((remark, faulty),) = crew.do([(_join, job.process, job.inputs, pairs, work.result)])
        return Made(tuple(found[: len(files)]), remark, faulty)

    return make


def _plan(job: Job, files: Sequence[Path], parts: Sequence[FrameRange]) -> bytes:
    """Return all that the parts depend on: those of another plan are of no use."""
    about = {
        "process": job.process.name,
        "parameters": plain(job.process.parameters),
        "version": __version__,
        "inputs": [(str(file), *stamp_of(file)) for file in files],
        "parts": [asdict(part) for part in parts],
    }
    return orjson.dumps(about)


def _make_part(process: Operation, inputs: Sequence[Path], part: FrameRange, target: Path) -> None:
    """Make a part, unless it was made before; it gets its name when it is whole."""
    if target.exists():
        return
    beside = target.with_name(f"{target.name}.{uuid4().hex}")
    try:
        process.run_part(inputs, part, beside)
        beside.replace(target)
    except OSError:
        if not target.exists():  # else a worker that was given up made it after all
            raise
    finally:
        remove(beside)


def _join(
    process: Operation,
    inputs: Sequence[Path],
    parts: Sequence[tuple[FrameRange, Path]],
    result: Path,
) -> tuple[str, bool]:
    """Join the parts in an empty folder.

    A worker that died while it did so may have moved pieces of parts already: these are kept,
    as one more folder among the parts.
    """
    if any(result.parent.iterdir()):
        result.parent.replace(parts[0][1].with_name(f"joined.{uuid4().hex}"))
        result.parent.mkdir()
    return _told(lambda: process.join(inputs, parts, result))


def _told(make: Callable[[], str]) -> tuple[str, bool]:
    """Return what is to be said of a result, and whether it tells of faults."""
    try:
        return make(), False
    except FaultsFoundError as error:
        return str(error), True


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
        self.parts = self.folder / "parts"
        self._lock_file = self.folder / "lock"
        self._sealed = self.folder / "sealed.json"
        self._room_made = self.folder / "room_made"

    @contextmanager
    def held(self, *, overwrite: bool = False) -> Iterator[None]:
        """Keep others from it for the block; complete first what a killed process had sealed.

        Afterwards nothing is left but the result; and parts, if they can be gone on with.

        Raises
        ------
        BlockingIOError
            If another process is making the same result.
        FileExistsError
            See `place`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file.touch()
        lock, to_go_on = self._lock(), False
        try:
            if self._sealed.exists():
                self.place(overwrite=overwrite)
            yield
        except (KeyboardInterrupt, LostWorkersError):
            to_go_on = self.parts.exists()
            raise
        finally:
            if lock is not None and sys.platform == "win32":
                lock.release()  # no file that is open is removed there
            if not (self._sealed.exists() or to_go_on):
                shutil.rmtree(self.folder, ignore_errors=True)
            if lock is not None:
                lock.release()

    def clear(self, plan: bytes = b"") -> None:
        """Begin anew, without what a killed process left.

        With a plan of parts, those stay that were made after the same one.
        """
        self._room_made.unlink(missing_ok=True)
        told = self.parts / "plan.json"
        if not (plan and told.exists() and told.read_bytes() == plan):
            shutil.rmtree(self.result.parent, ignore_errors=True)
            shutil.rmtree(self.parts, ignore_errors=True)
        self.result.parent.mkdir(exist_ok=True)
        if plan:
            self.parts.mkdir(exist_ok=True)
            replace_bytes(told, plan)

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


if TYPE_CHECKING:
    Make = Callable[[Job, Sequence[Path], Staging], "Made"]
