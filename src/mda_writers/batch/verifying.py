"""Verify many recordings, or a large one by many hands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Unpack

import orjson
from pydantic import TypeAdapter

from mda_writers.batch.inputs import files_of, find_inputs
from mda_writers.batch.job import JobResult, Status, outcome_of
from mda_writers.batch.making import FaultsFoundError
from mda_writers.batch.parts import are_worth_it
from mda_writers.batch.process import Process
from mda_writers.batch.process_record import size_of
from mda_writers.batch.starting import Running, run_all, run_each
from mda_writers.batch.verify import blocks_to_verify, verify, verify_part
from mda_writers.batch.verify_result import VerifyResult, joined
from mda_writers.errors import options_checked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mda_writers.batch.crew import Crew
    from mda_writers.batch.parts import Block
    from mda_writers.batch.summary import Summary


@options_checked("verify_all", also=Running.__annotations__)
def verify_all(
    inputs: str | Path | Iterable[str | Path],
    results: str | Path | None = None,
    **running: Unpack[Running],
) -> Summary:
    """Read every frame of many recordings back, and compare it with its checksum.

    One that is not intact, or not complete, has failed; one that was interrupted, and is intact as
    far as it came, has not. Nothing is written anywhere, unless a
    folder for the results is named: then every recording gets ``<name>_verify.json`` there, and
    is skipped the next time, as long as its files have the size and the time they had. (What was
    found faulty is told of again.) For the record beside each result the files are read a second
    time, as a whole.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Recordings of this package, or folders that hold some.
    results : path-like, optional
        A folder for the results, which makes the batch resumable.
    **running
        As for `convert`: ``overwrite`` (of results), ``workers``, ``client``, ``scheduler``,
        ``progress``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the call makes no sense; nothing is done then.
    BatchError
        If any recording is not as it was written, or not complete; all others were verified.
    """
    found = find_inputs(inputs, ours_only=True)
    if results is not None:
        return run_each(Verify(), found, results, "_verify.json", running)
    return run_all([Verification(path) for path, _ in found], running)


@dataclass(frozen=True, slots=True)
class Verify(Process):
    """Writes what verifying a recording has shown."""

    name: ClassVar[str] = "verify"

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Write it."""
        return _written(verify(inputs[0], progress=False), result)

    def parts(self, inputs: Sequence[Path], output: Path) -> list[Block]:
        """Return blocks of frames."""
        return blocks_to_verify(inputs[0])

    def run_part(self, inputs: Sequence[Path], part: Block, target: Path) -> None:
        """Verify one of them."""
        target.write_bytes(orjson.dumps(asdict(verify_part(inputs[0], part))))

    def join(
        self, inputs: Sequence[Path], parts: Sequence[tuple[Block, Path]], result: Path
    ) -> str:
        """Write what all have shown."""
        shown = [_RESULT.validate_json(path.read_bytes()) for _, path in parts]
        return _written(joined([verify_part(inputs[0], None), *shown]), result)


@dataclass(frozen=True, slots=True)
class Verification:
    """Verifies a recording, and writes nothing."""

    output: Path

    def run(self) -> JobResult:
        """Verify it as a whole."""
        return outcome_of(self.output, lambda: _status(verify(self.output, progress=False)))

    def parts(self, *, on_cluster: bool) -> list[Block]:
        """Return blocks of frames, if it is worth it."""
        large = are_worth_it(sum(map(size_of, files_of(self.output))))
        return blocks_to_verify(self.output) if large else []

    def run_in_parts(self, parts: Sequence[Block], crew: Crew) -> JobResult:
        """Verify it by many hands."""
        calls = [(verify_part, self.output, part) for part in (None, *parts)]
        return outcome_of(self.output, lambda: _status(joined(crew.do(calls))))


def _status(result: VerifyResult) -> tuple[Status, str]:
    if result.interrupted and result.intact:
        return "interrupted", str(result)
    return "done" if result.ok else "failed", str(result)


def _written(result: VerifyResult, path: Path) -> str:
    told = {"ok": result.ok, "intact": result.intact, **asdict(result)}
    path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if not (result.ok or (result.interrupted and result.intact)):
        raise FaultsFoundError(str(result))
    return str(result)


_RESULT = TypeAdapter(VerifyResult)
