"""Making a result in its work folder: in one go, or in parts by many hands."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson

from mda_writers._version import __version__
from mda_writers.batch.process_record import InputFile, plain, stamp_of
from mda_writers.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mda_writers.batch.crew import Crew
    from mda_writers.batch.job import Job
    from mda_writers.batch.parts import Block
    from mda_writers.batch.placing import WorkFolder
    from mda_writers.batch.process import Process

    Make = Callable[[Job, Sequence[Path], WorkFolder], "Made"]


class FaultsFoundError(WriteError):
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


def make_whole(job: Job, files: Sequence[Path], work: WorkFolder) -> Made:
    """Make a result in one go."""
    work.clear()
    inputs = tuple(map(InputFile.of, files))
    return Made(inputs, *_told(lambda: job.process.run(job.inputs, work.result)))


def make_in_parts(parts: Sequence[Block], crew: Crew) -> Make:
    """Return what makes a result in these parts."""

    def make(job: Job, files: Sequence[Path], work: WorkFolder) -> Made:
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


def _plan(job: Job, files: Sequence[Path], parts: Sequence[Block]) -> bytes:
    """Return all that the parts depend on: those of another plan are of no use."""
    about = {
        "process": job.process.name,
        "parameters": plain(job.process.parameters),
        "version": __version__,
        "inputs": [(str(file), *stamp_of(file)) for file in files],
        "parts": [asdict(part) for part in parts],
    }
    return orjson.dumps(about)


def _make_part(process: Process, inputs: Sequence[Path], part: Block, target: Path) -> None:
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
    process: Process,
    inputs: Sequence[Path],
    parts: Sequence[tuple[Block, Path]],
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
