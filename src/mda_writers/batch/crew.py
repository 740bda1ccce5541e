"""A crew: the threads of this machine, or the workers of a Dask cluster, that do what is asked."""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mda_writers.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from mda_writers.batch.bar import Bar

RETRIES = 2
"""Times that Dask may begin something again when it failed for no fault of its own."""

CONNECT_S = 10
"""How long to wait for a scheduler to answer."""


class LostWorkersError(WriteError):
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
