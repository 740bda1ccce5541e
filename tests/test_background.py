"""Jobs in the background are done in order, are bounded, and never fail silently."""

from __future__ import annotations

import threading
import time

import pytest

from mda_writers.storage.workers import Background

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_jobs_are_done_in_their_order_before_close_returns() -> None:
    done: list[int] = []
    background = Background("test")
    for n in range(50):
        background.put(lambda n=n: done.append(n))  # type: ignore[misc]
    background.close()
    assert done == list(range(50))


def test_no_more_than_so_many_jobs_wait() -> None:
    let_go = threading.Event()
    background = Background("test", most=2)
    background.put(let_go.wait)
    background.put(let_go.wait)
    assert not background.is_idle
    threading.Timer(0.2, let_go.set).start()
    began = time.monotonic()
    background.put(lambda: None)
    assert time.monotonic() - began > 0.1
    background.wait()
    assert background.is_idle
    background.close()


def test_a_job_that_fails_is_told_by_everything_that_follows_and_no_other_is_done() -> None:
    done: list[int] = []
    let_go = threading.Event()

    def fail() -> None:
        let_go.wait()
        raise OSError("no room")

    background = Background("test", most=3)
    background.put(fail)
    background.put(lambda: done.append(1))
    let_go.set()
    with pytest.raises(OSError, match="no room"):
        background.wait()
    with pytest.raises(OSError, match="no room"):
        background.put(lambda: done.append(2))
    with pytest.raises(OSError, match="no room"):
        background.is_idle  # noqa: B018 - asking is what raises
    with pytest.raises(OSError, match="no room"):
        background.close()
    assert not done


def test_without_jobs_there_is_no_thread() -> None:
    before = threading.active_count()
    background = Background("test")
    assert threading.active_count() == before
    background.close()
