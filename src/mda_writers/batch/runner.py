"""Many jobs at once: on the threads of this machine, or on a Dask cluster."""

from __future__ import annotations

import os
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mda_writers.batch.job import Job, JobResult, run_job
from mda_writers.batch.summary import Summary
from mda_writers.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOST_WORKERS = 4
"""Jobs at once by default: recordings are limited by the disk long before that."""

RETRIES = 2
"""Times that Dask may begin a job again when it failed for no fault of its own."""

CONNECT_S = 10
"""How long to wait for a scheduler to answer."""


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    client: Any = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Summary:
    """Do all jobs, whatever becomes of the others.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be done.
    workers : int, optional
        Jobs at once on this machine.
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
    results: dict[int, JobResult] = {}
    with _progress(len(jobs), progress) as advance:
        for number, result in _finished(jobs, workers, client, scheduler):
            results[number] = result
            advance(result)
    summary = Summary([results[n] for n in range(len(jobs))])
    if progress and len(jobs) > 1:
        from rich.console import Console

        Console(stderr=True).print(summary.table())
    return summary


def _finished(
    jobs: Sequence[Job], workers: int | None, client: Any, scheduler: str | None
) -> Iterator[tuple[int, JobResult]]:
    """Yield the number and the result of every job, in the order in which they end."""
    if client is not None:
        yield from _on_cluster(jobs, client)
    elif scheduler is not None:
        with _connected(scheduler) as found:
            yield from _on_cluster(jobs, found)
    else:
        yield from _on_threads(jobs, workers or min(MOST_WORKERS, os.cpu_count() or 1))


def _on_threads(jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, JobResult]]:
    with ThreadPoolExecutor(workers, thread_name_prefix="mda-writers-batch") as pool:
        futures = {pool.submit(run_job, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            # Ctrl-C: what runs comes to its end, nothing else begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _on_cluster(jobs: Sequence[Job], client: Any) -> Iterator[tuple[int, JobResult]]:
    """Let the cluster's workers do the jobs; one that dies is replaced by another."""
    cluster_completed = import_module("distributed").as_completed
    run = uuid4().hex
    futures = {
        client.submit(
            run_job, job, key=f"mda-writers-{run}-{number}", pure=False, retries=RETRIES
        ): number
        for number, job in enumerate(jobs)
    }
    try:
        for future in cluster_completed(list(futures), loop=client.loop):
            number = futures.pop(future)
            yield number, _result_of(future, jobs[number])
            future.release()
    finally:
        client.cancel(list(futures))


def _result_of(future: Any, job: Job) -> JobResult:
    try:
        result: JobResult = future.result()
    except (Exception, CancelledError) as error:
        reason = f"the cluster gave it up: {type(error).__name__}: {error}"
        return JobResult(job.output, "failed", reason)
    return result


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
        raise WriteError(f"{scheduler}: no Dask scheduler answers there ({error}).") from error
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _progress(total: int, show: bool) -> Iterator[Callable[[JobResult], None]]:
    if not show:
        yield lambda result: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda result: bar.update(task, advance=1, description=result.output.name)
