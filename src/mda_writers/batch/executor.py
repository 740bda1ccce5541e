"""Run jobs on threads, processes or a Dask cluster, with progress."""

from __future__ import annotations

import os
from collections import Counter, deque
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mda_writers.errors import RecordingError, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from rich.progress import Progress
    from rich.table import Table

T = TypeVar("T")


MOST_WORKERS = 4
"""Jobs at once by default: recordings are limited by the disk long before that."""

RETRIES = 2
"""Times that Dask may begin something again when it failed for no fault of its own."""

CONNECT_S = 10
"""How long to wait for a scheduler to answer."""

_LISTED = 20

Status = Literal["done", "skipped", "interrupted", "failed"]


class Task(Protocol):
    """What can be run: a `Job`, or something that is done to a recording where it is."""

    @property
    def output(self) -> Path:
        """What it is about, for the table."""

    def is_shared(self, *, on_cluster: bool) -> bool:
        """Whether it is worth the work of several workers."""

    def run(self, workers: Workers = ...) -> JobResult:
        """Do it; never raises."""


def run_jobs(
    jobs: Sequence[Task],
    *,
    workers: int | None = None,
    client: Any = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Summary:
    """Do all jobs, whatever becomes of the others.

    Each is one task of one worker; but those on large recordings are done one after the other,
    each by all workers.

    Parameters
    ----------
    jobs : sequence of Task
        What is to be done.
    workers : int, optional
        Jobs, or pieces of large ones, at once on this machine.
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
    count = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    on_cluster = client is not None or scheduler is not None
    results: dict[int, JobResult] = {}
    with (
        bar_for(progress) as bar,
        _pool_of(count, client, scheduler) as (pool, size),
        ThreadPoolExecutor(1, thread_name_prefix="mda-writers-large") as large,
    ):
        bar.expect(len(jobs))
        shared = Workers(pool, size, bar)
        try:
            futures = {
                large.submit(job.run, shared)
                if size > 1 and _is_shared(job, on_cluster)
                else pool.submit(run_task, job): number
                for number, job in enumerate(jobs)
            }
            for future in as_completed(futures):
                number = futures[future]
                results[number] = _result_of(future, jobs[number])
                bar.advance(results[number].output.name)
        except BaseException:
            shared.stop()
            large.shutdown(wait=False, cancel_futures=True)
            raise
    summary = Summary([results[n] for n in range(len(jobs))])
    if progress and len(jobs) > 1:
        from rich.console import Console

        Console(stderr=True).print(summary.table())
    return summary


def _is_shared(job: Task, on_cluster: bool) -> bool:
    try:
        return job.is_shared(on_cluster=on_cluster)
    except Exception:  # it will fail anyhow, and say why
        return False


def run_task(job: Task) -> JobResult:
    """Run a job; what a cluster calls its work by."""
    return job.run()


def _result_of(future: Future[JobResult], job: Task) -> JobResult:
    try:
        return future.result()
    except (Exception, CancelledError) as error:
        reason = f"the cluster gave it up: {type(error).__name__}: {error}"
        return JobResult(job.output, "failed", reason)


class Bar:
    """A progress bar, if one is wanted; used by any thread."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("", total=0)
        self._total = 0
        self._lock = Lock()

    def expect(self, more: int) -> None:
        """Say that there is more to be done."""
        if self._progress is None or self._task is None:
            return
        with self._lock:
            self._total += more
            self._progress.update(self._task, total=self._total)

    def advance(self, what: str = "") -> None:
        """Say that one is done, and perhaps what it was."""
        if self._progress is None or self._task is None:
            return
        self._progress.update(self._task, advance=1, description=what or None)


@contextmanager
def bar_for(show: bool) -> Iterator[Bar]:
    """Show a progress bar for the block, if it is wanted."""
    if not show:
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)


class Workers:
    """Those who share the work on one recording: a cluster's workers, threads, or nobody else."""

    def __init__(self, pool: Executor | None = None, size: int = 1, bar: Bar | None = None) -> None:
        self._pool = pool
        self._size = size
        self._bar = bar or Bar()
        self._stopped = False

    @property
    def several(self) -> bool:
        """Whether there are several."""
        return self._pool is not None

    def map(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        """Yield ``function(*call)`` for each of the calls, in their order.

        Few results are in memory at once. On a cluster, arguments and results travel.

        Raises
        ------
        Exception
            What a call has raised; no other begins then.
        RecordingError
            If the cluster could not do it.
        """
        if self._pool is None:
            yield from (function(*call) for call in calls)
            return
        self._bar.expect(len(calls))
        under_way: deque[Future[T]] = deque()
        try:
            for call in calls:
                if len(under_way) > self._size:
                    yield self._value(under_way.popleft())
                under_way.append(self._pool.submit(function, *call))
            while under_way:
                yield self._value(under_way.popleft())
        finally:
            # who clears up behind us must not find anybody at work on this machine
            wait([future for future in under_way if not future.cancel()])

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True

    def _value(self, future: Future[T]) -> T:
        try:
            value = future.result()
        except CancelledError as error:
            raise RecordingError("the cluster gave it up. Start again.") from error
        if self._stopped:
            raise RecordingError("stopped")
        self._bar.advance()
        return value


ALONE = Workers()
"""Nobody shares the work."""


@contextmanager
def _pool_of(count: int, client: Any, scheduler: str | None) -> Iterator[tuple[Executor, int]]:
    """Return what runs calls for the block, and how many at once: a cluster, or else threads.

    Raises
    ------
    WriteError
        If the scheduler cannot be reached.
    """
    if client is not None:
        cluster: Executor = client.get_executor(pure=False, retries=RETRIES)
        try:
            yield cluster, max(2, sum(client.nthreads().values()))
        finally:
            cluster.shutdown(wait=False)
    elif scheduler is not None:
        with _connected(scheduler) as found, _pool_of(count, found, None) as pool:
            yield pool
    else:
        with ThreadPoolExecutor(count, thread_name_prefix="mda-writers-batch") as threads:
            try:
                yield threads, count
            finally:  # Ctrl-C: what runs comes to its end, nothing else begins
                threads.shutdown(wait=False, cancel_futures=True)


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
