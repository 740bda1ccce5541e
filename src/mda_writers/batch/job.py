"""A job: one process that makes one result out of one or more inputs, once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mda_writers.batch.inputs import files_of
from mda_writers.batch.making import make_in_parts, make_whole
from mda_writers.batch.parts import are_worth_it
from mda_writers.batch.placing import WorkFolder, check_free, check_replaceable, record_path
from mda_writers.batch.process_record import ProcessRecord, plain, size_of, stamp_of
from mda_writers.errors import DiskFullError, WriteError, in_words
from mda_writers.storage.space import free_bytes, human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mda_writers.batch.crew import Crew
    from mda_writers.batch.making import Made, Make
    from mda_writers.batch.parts import Block
    from mda_writers.batch.process import Process

Status = Literal["done", "skipped", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job.

    Attributes
    ----------
    output : Path
        What it was to make; of a job that makes nothing, the recording that it was about.
    status : {"done", "skipped", "interrupted", "failed"}
        Skipped is what had been done before; interrupted is a recording without its end, of which
        everything else is right.
    reason : str
        Why it failed; or what whoever uses the result should know.
    seconds : float
        How long it took.
    """

    output: Path
    status: Status
    reason: str = ""
    seconds: float = 0.0


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

    process: Process
    inputs: tuple[Path, ...]
    output: Path
    overwrite: bool = False

    def run(self) -> JobResult:
        """Do it, unless it was done before; never raises but for an interrupt."""
        return outcome_of(self.output, lambda: self._run(make_whole))

    def parts(self, *, on_cluster: bool) -> list[Block]:
        """Return the parts that are worth the work of several; none if it is done as a whole."""
        if self.process.busy_alone and not on_cluster:
            return []
        if not are_worth_it(sum(map(size_of, self._files()))):
            return []
        return self.process.parts(self.inputs, self.output)

    def run_in_parts(self, parts: Sequence[Block], crew: Crew) -> JobResult:
        """Do the same by many hands; the result is the same, too."""
        return outcome_of(self.output, lambda: self._run(make_in_parts(parts, crew)))

    def _files(self) -> list[Path]:
        mine = [file for path in self.inputs for file in files_of(path)]
        return [*mine, *self.process.further_inputs()]

    def _run(self, make: Make) -> tuple[Status, str]:
        begun = time.perf_counter()
        files = self._files()
        work = WorkFolder(self.output)
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
        reason = reason.replace(str(WorkFolder(output).result.parent), str(output.parent))
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
