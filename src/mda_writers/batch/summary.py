"""What became of many jobs: a table for people, an exit code for scripts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mda_writers.errors import WriteError

if TYPE_CHECKING:
    from rich.table import Table

    from mda_writers.batch.job import JobResult, Status

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Summary:
    """The results of all jobs, in the order of the jobs."""

    results: list[JobResult] = field(default_factory=list)

    @property
    def failed(self) -> list[JobResult]:
        """Those that failed."""
        return [result for result in self.results if result.status == "failed"]

    @property
    def ok(self) -> bool:
        """Whether none failed."""
        return not self.failed

    @property
    def fine(self) -> bool:
        """Whether there is nothing to look after: all is done."""
        return all(result.status in ("done", "skipped") for result in self.results)

    def __str__(self) -> str:
        counts = Counter(result.status for result in self.results)
        return ", ".join(f"{counts[s]} {s}" for s in _ORDER if counts[s])

    def table(self) -> Table:
        """Return all results as a table for the terminal, those that failed last."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, title=str(self), title_justify="left")
        for column in ("result", "status", "seconds", "remark"):
            table.add_column(column, overflow="fold")
        for result in sorted(self.results, key=lambda each: each.status == "failed"):
            colour = _COLOURS[result.status]
            table.add_row(
                escape(result.output.name),
                f"[{colour}]{result.status}[/{colour}]",
                f"{result.seconds:.1f}",
                escape(result.reason),
            )
        return table

    def checked(self) -> Summary:
        """Return this.

        Raises
        ------
        BatchError
            If any job failed.
        """
        if not self.ok:
            raise BatchError(self)
        return self


class BatchError(WriteError):
    """Some of several jobs failed; `summary` has the results of all."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        failed = summary.failed
        lines = [f"{result.output}: {result.reason}" for result in failed[:_LISTED]]
        more = [f"… and {len(failed) - _LISTED} more"] if len(failed) > _LISTED else []
        heading = f"{len(failed)} of {len(summary.results)} failed:"
        super().__init__("\n".join([heading, *lines, *more]))

    def __reduce__(self) -> tuple[type[BatchError], tuple[Summary]]:
        return BatchError, (self.summary,)


_ORDER: tuple[Status, ...] = ("done", "skipped", "interrupted", "failed")
_COLOURS = {"done": "green", "skipped": "dim", "interrupted": "yellow", "failed": "red"}
