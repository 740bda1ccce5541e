"""Run jobs on threads, processes or a Dask cluster, with progress."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mda_writers.errors import RecordingError, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from rich.table import Table

    from mda_writers.model.frame import FrameRange


MOST_WORKERS = 4
"""Jobs at once by default: recordings are limited by the disk long before that."""

LEADERS = 8
"""Large jobs under way at once; each has a thread here that waits for its parts."""

RETRIES = 2
"""Times that Dask may begin something again when it failed for no fault of its own."""

CONNECT_S = 10
"""How long to wait for a scheduler to answer."""

_LISTED = 20

Status = Literal["done", "skipped", "interrupted", "failed"]


class Task(Protocol):
    """What can be run: a `Job`, or something that is done to a recording where it lies."""

    @property
    def output(self) -> Path:
        """What it is about, for the table."""

    def run(self) -> JobResult:
        """Do it as a whole; never raises."""

    def parts(self, *, on_cluster: bool) -> list[FrameRange]:
        """Return the parts in which it is done; none if as a whole."""

    def run_in_parts(self, parts: Sequence[FrameRange], crew: Crew) -> JobResult:
        """Do it with a crew; never raises."""


def run_jobs(
    jobs: Sequence[Task],
    *,
    workers: int | None = None,
    client: Any = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Summary:
    """Do all jobs, whatever becomes of the others.

    Parameters
    ----------
    jobs : sequence of Task
        What is to be done.
    workers : int, optional
        Jobs, or parts of jobs, at once on this machine.
    client : distributed.Client, optional
        A Dask cluster that does them instead. Its workers see the same files.
    scheduler : str, optional
        The address of one; the connection is closed at the end.
    progress : bool
        Whether to show a progress bar, and a table at the end if there are several jobs.

    Raises
    ------
    WriteError
        If the scheduler cannot be reached.
    """
    workers = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    on_cluster = client is not None or scheduler is not None
    shared = on_cluster or workers > 1
    results: dict[int, JobResult] = {}
    with bar_for(progress) as bar, crew_of(workers, client, scheduler, bar) as crew:
        bar.expect(len(jobs))
        with ThreadPoolExecutor(LEADERS, thread_name_prefix="mda-writers-leader") as leaders:
            try:
                futures = {
                    _begun(job, _parts(job, on_cluster) if shared else [], crew, leaders): number
                    for number, job in enumerate(jobs)
                }
                for future in as_completed(futures):
                    number = futures[future]
                    results[number] = _result_of(future, jobs[number])
                    bar.advance(results[number].output.name)
            except BaseException:
                crew.stop()
                leaders.shutdown(wait=False, cancel_futures=True)
                raise
    summary = Summary([results[n] for n in range(len(jobs))])
    if progress and len(jobs) > 1:
        from rich.console import Console

        Console(stderr=True).print(summary.table())
    return summary


def _parts(job: Task, on_cluster: bool) -> list[FrameRange]:
    """Return the parts of a job; none of one that will fail anyhow, and say why."""
    try:
        return job.parts(on_cluster=on_cluster)
    except Exception:
        return []


def _begun(
    job: Task, parts: list[FrameRange], crew: Crew, leaders: ThreadPoolExecutor
) -> Future[JobResult]:
    if len(parts) < 2:
        return crew.begin(run_task, job)
    return leaders.submit(job.run_in_parts, parts, crew)


def run_task(job: Task) -> JobResult:
    """Run a job; what a cluster calls its work by."""
    return job.run()


def _result_of(future: Future[JobResult], job: Task) -> JobResult:
    try:
        return future.result()
    except (Exception, CancelledError) as error:
        reason = f"the cluster gave it up: {type(error).__name__}: {error}"
        return JobResult(job.output, "failed", reason)


class LostWorkersError(RecordingError):
    """Those who did the work are gone: the fault is not in the work, which may go on elsewhere."""


class Crew:
    """Does calls, each on one of its workers; used from several threads at once.

    Parameters
    ----------
    pool : Executor
        The workers.
    bar : Bar
        Shows how far the work is.
    """

    def __init__(self, pool: Executor, bar: Bar) -> None:
        self._pool = pool
        self._bar = bar
        self._under_way: set[Future[Any]] = set()
        self._stopped = False

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a call; what it raises is raised by the future's ``result``."""
        return self._pool.submit(function, *arguments)

    def do(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Do calls ``(function, *arguments)`` and return their results in the same order.

        Raises
        ------
        Exception
            What the first of them that failed has raised; no other begins then.
        LostWorkersError
            If the workers could not do it.
        KeyboardInterrupt
            If the crew was stopped meanwhile.
        """
        self._bar.expect(len(calls))
        futures = [self._pool.submit(_attempt, *call) for call in calls]
        self._under_way.update(futures)
        try:
            for future in as_completed(futures):
                self._value(future)
                self._bar.advance()
            return [self._value(future) for future in futures]
        finally:
            self._under_way.difference_update(futures)
            # whoever clears up behind us must not find anybody at work on this machine
            wait([future for future in futures if not future.cancel()])

    def stop(self) -> None:
        """Begin nothing more, and end all that is asked with a KeyboardInterrupt."""
        self._stopped = True
        for future in list(self._under_way):
            future.cancel()

    def _value(self, future: Future[Any]) -> Any:
        try:
            value, error = future.result()
        except (Exception, CancelledError) as lost:
            if self._stopped:
                raise KeyboardInterrupt from lost
            raise LostWorkersError(
                f"the cluster gave it up ({type(lost).__name__}: {lost}). The parts that are "
                "done are kept; start again to go on with them."
            ) from lost
        if error is not None:
            raise error
        return value


def _attempt(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    """Return what a call returns and what it raises: a cluster tries raised errors again."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


@contextmanager
def crew_of(workers: int, client: Any, scheduler: str | None, bar: Bar) -> Iterator[Crew]:
    """Return a crew for the block: that of a cluster if there is one, else threads.

    Raises
    ------
    WriteError
        If the scheduler cannot be reached.
    """
    if client is not None:
        with _on_cluster(client) as pool:
            yield Crew(pool, bar)
    elif scheduler is not None:
        with _connected(scheduler) as found, _on_cluster(found) as pool:
            yield Crew(pool, bar)
    else:
        with ThreadPoolExecutor(workers, thread_name_prefix="mda-writers-batch") as pool:
            try:
                yield Crew(pool, bar)
            finally:  # Ctrl-C: what runs comes to its end, nothing else begins
                pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _on_cluster(client: Any) -> Iterator[Executor]:
    """Let the cluster's workers do what is asked; one that dies is replaced by another."""
    pool: Executor = client.get_executor(pure=False, retries=RETRIES)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    try:
        connect = import_module("distributed").Client
    except ImportError as error:
        raise WriteError(
            "A Dask cluster needs the package distributed: pip install 'mda-writers[cluster]'."
        ) from error
    try:
        client = connect(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WriteError(
            f"{scheduler}: no Dask scheduler answers there ({error}). Start one with `dask "
            "scheduler`, or leave the option out to work on this machine."
        ) from error
    try:
        yield client
    finally:
        with suppress(OSError):
            client.close()


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


class BatchError(RecordingError):
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
