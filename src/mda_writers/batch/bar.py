"""The progress bar of a batch: jobs, and parts of jobs, as they are done."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bar(Protocol):
    """Is told how much there is, and how much of it is done; by any thread."""

    def expect(self, more: int) -> None:
        """Say that there is more to be done."""

    def advance(self, what: str = "") -> None:
        """Say that one is done, and perhaps what it was."""


@contextmanager
def bar_for(show: bool) -> Iterator[Bar]:
    """Show a progress bar for the block, if it is wanted."""
    if not show:
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _RichBar(progress)


class _RichBar:
    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=0)
        self._total = 0
        self._lock = Lock()

    def expect(self, more: int) -> None:
        with self._lock:
            self._total += more
            self._progress.update(self._task, total=self._total)

    def advance(self, what: str = "") -> None:
        self._progress.update(self._task, advance=1, **({"description": what} if what else {}))


class _NoBar:
    def expect(self, more: int) -> None:
        """Show nothing."""

    def advance(self, what: str = "") -> None:
        """Show nothing."""
