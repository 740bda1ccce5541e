"""Waiting for frames of a recording that goes on in another process."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.dataset.coordinates import Value
    from mda_writers.dataset.dataset import Dataset

POLL_S = 0.01
"""Between two looks at the journal: a look costs 0.1 ms, and frames come seldom in less."""


def await_news(dataset: Dataset, timeout_s: float | None) -> bool:
    """Return True when `dataset` has a new frame; False if time is up or none will come."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        # asked before looking: a writer may write its last frame and end in between
        live = dataset.is_live()
        if dataset.refresh():
            return True
        if not live or (deadline is not None and time.monotonic() >= deadline):
            return False
        time.sleep(POLL_S)


def follow(dataset: Dataset) -> Iterator[dict[str, Value]]:
    """Yield the coordinates of all frames: those that are there, then each as it comes."""
    news: deque[dict[str, Value]] = deque()
    dataset.followers.append(news)
    try:
        yield from dataset.image_coordinates
        while news or await_news(dataset, None):
            while news:
                yield news.popleft()
    finally:
        # by identity: two followers may have the same news
        dataset.followers[:] = [each for each in dataset.followers if each is not news]
