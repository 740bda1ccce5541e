"""Many jobs at once, each by one worker; and the large ones in parts, by all of them."""

from __future__ import annotations

import os
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, Protocol

from mda_writers.batch.bar import bar_for
from mda_writers.batch.crew import crew_of
from mda_writers.batch.job import JobResult
from mda_writers.batch.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from mda_writers.batch.crew import Crew
    from mda_writers.batch.parts import Block

MOST_WORKERS = 4
"""Jobs at once by default: recordings are limited by the disk long before that."""

LEADERS = 8
"""Large jobs under way at once; each has a thread here that waits for its parts."""


class Task(Protocol):
    """What can be run: a `Job`, or something that is done to a recording where it lies."""

    @property
    def output(self) -> Path:
        """What it is about, for the table."""

    def run(self) -> JobResult:
        """Do it as a whole; never raises."""

    def parts(self, *, on_cluster: bool) -> list[Block]:
        """Return the parts in which it is done; none if as a whole."""

    def run_in_parts(self, parts: Sequence[Block], crew: Crew) -> JobResult:
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


def _parts(job: Task, on_cluster: bool) -> list[Block]:
    """Return the parts of a job; none of one that will fail anyhow, and say why."""
    try:
        return job.parts(on_cluster=on_cluster)
    except Exception:
        return []


def _begun(
    job: Task, parts: list[Block], crew: Crew, leaders: ThreadPoolExecutor
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
