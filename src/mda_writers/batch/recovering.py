"""Recover many recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.job import JobResult, Status, outcome_of
from mda_writers.batch.recover import recover
from mda_writers.batch.starting import Running, run_all
from mda_writers.errors import options_checked
from mda_writers.recording.stored import main_path
from mda_writers.sinks.sidecar import journal_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mda_writers.batch.crew import Crew
    from mda_writers.batch.parts import Block
    from mda_writers.batch.summary import Summary


@options_checked("recover_all", also=Running.__annotations__)
def recover_all(inputs: str | Path | Iterable[str | Path], **running: Unpack[Running]) -> Summary:
    """Complete interrupted recordings, as far as their frames had reached the disk.

    Those that have ended already are skipped, and left as they are. See `recover`.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Recordings of this package, or folders that hold some.
    **running
        As for `convert`: ``workers``, ``client``, ``scheduler``, ``progress``.

    Raises
    ------
    FileNotFoundError
        If there is no such recording; nothing is done then.
    BatchError
        If any could not be completed, such as one that is still being written; all others were.
    """
    found = find_inputs(inputs, ours_only=True)
    return run_all([Recovery(path) for path, _ in found], running)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Completes a recording where it lies."""

    output: Path

    def run(self) -> JobResult:
        """Do it, unless the recording has ended."""
        return outcome_of(self.output, self._run)

    def parts(self, *, on_cluster: bool) -> list[Block]:
        """Return nothing: its frames are not touched, so that it takes no time."""
        return []

    def run_in_parts(self, parts: Sequence[Block], crew: Crew) -> JobResult:
        """Do it; there are no parts."""
        return self.run()

    def _run(self) -> tuple[Status, str]:
        ended = not journal_path(main_path(self.output)).exists()
        report = recover(self.output)
        planned = "" if report.frames_expected is None else f" of {report.frames_expected} planned"
        told = f"{report.frames_written}{planned} frames are on disk, with their metadata"
        return ("skipped", f"it has ended: {told}") if ended else ("done", told)
