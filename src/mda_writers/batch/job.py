"""A job: one process that makes one result out of one or more inputs, once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mda_writers.batch.inputs import files_of
from mda_writers.batch.placing import WorkFolder, check_free, record_path
from mda_writers.batch.process_record import InputFile, ProcessRecord, plain
from mda_writers.errors import DiskFullError, WriteError
from mda_writers.storage.space import free_bytes, human_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Process(Protocol):
    """What is done to recordings. Travels to other machines, so that it is plain data."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All that its result depends on besides its inputs, as plain values."""

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Make the file `result`, and any further ones beside it; return a remark, or nothing.

        Raises
        ------
        Exception
            Saying why it cannot be made.
        """

    def further_inputs(self) -> Sequence[Path]:
        """Return files that it reads besides the recordings."""


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


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job.

    Attributes
    ----------
    output : Path
        What it was to make.
    status : {"done", "skipped", "failed"}
        Skipped is what had been done before.
    reason : str
        Why it failed; or what whoever uses the result should know.
    seconds : float
        How long it took.
    """

    output: Path
    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    seconds: float = 0.0


def run_job(job: Job) -> JobResult:
    """Do a job, unless it was done before; never raises but for an interrupt."""
    begun = time.perf_counter()
    try:
        done, remark = _run(job)
    except Exception as error:
        reason = str(error) or "no reason given"
        if not isinstance(error, _SAYS_ENOUGH):
            reason = f"{type(error).__name__}: {reason}"
        # the folder in which it was made is gone, and nobody's concern
        reason = reason.replace(str(WorkFolder(job.output).result.parent), str(job.output.parent))
        return JobResult(job.output, "failed", reason, time.perf_counter() - begun)
    return JobResult(job.output, done, remark, time.perf_counter() - begun)


def _run(job: Job) -> tuple[Literal["done", "skipped"], str]:
    begun = time.perf_counter()
    files = [
        *(file for path in job.inputs for file in files_of(path)),
        *job.process.further_inputs(),
    ]
    work = WorkFolder(job.output)
    with work.held(overwrite=job.overwrite):
        known = ProcessRecord.read(record_path(job.output))
        about = (job.process.name, plain(job.process.parameters))
        if known is not None and known.answers(*about, files, job.output.parent):
            return "skipped", known.remark
        if not job.overwrite:
            check_free(job.output)
        work.clear()
        described = tuple(InputFile.of(file) for file in files)
        remark = _made(job, work)
        _check_unchanged(described, files)
        seconds = time.perf_counter() - begun
        work.seal(ProcessRecord(*about, described, {}, remark, seconds))
        work.place(overwrite=job.overwrite)
    return "done", remark


def _made(job: Job, work: WorkFolder) -> str:
    """Make the result; what a writer says of its files on a full disk is not true of this one."""
    try:
        return job.process.run(job.inputs, work.result)
    except DiskFullError as error:
        free = human_bytes(free_bytes(job.output.parent))
        raise DiskFullError(
            f"{job.output}: the disk is full ({free} free). Nothing of it was kept; free some "
            "space and start again: what is done is skipped."
        ) from error


def _check_unchanged(described: Sequence[InputFile], files: Sequence[Path]) -> None:
    for before, file in zip(described, files, strict=True):
        if not before.is_same(file):
            raise WriteError(f"{file}: changed while it was read. Try again when nobody writes it.")


_SAYS_ENOUGH = (OSError, ValueError, RuntimeError)
"""Errors whose texts are sentences; others are told with their names."""
