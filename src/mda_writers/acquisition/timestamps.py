"""When each device began and stopped, on both clocks, so that devices can be aligned."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mda_writers.acquisition.csv_rows import csv_line
from mda_writers.acquisition.moment import Moment
from mda_writers.storage.atomic import replace_bytes
from mda_writers.storage.failure import explained

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    "device",
    "started",
    "stopped",
    "started_unix_time_s",
    "stopped_unix_time_s",
    "started_monotonic_s",
    "stopped_monotonic_s",
)


@dataclass(slots=True)
class Span:
    """From when to when a device recorded; it has not stopped where `stopped` is None."""

    device: str
    started: Moment
    stopped: Moment | None = None


class Timestamps:
    """The file ``timestamps.csv``: whole at every moment, a row for each recording.

    It is replaced at each change: a session has tens of recordings, not thousands a second.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self._write()

    def start(self, device: str, moment: Moment) -> Span:
        """Note that `device` began; an empty ``stopped`` says that it goes on, or was killed."""
        span = Span(device, moment)
        with self._lock:
            self._spans.append(span)
            self._write()
        return span

    def stop(self, span: Span, moment: Moment) -> None:
        """Note that a device stopped."""
        with self._lock:
            span.stopped = moment
            self._write()

    def _write(self) -> None:
        rows = [csv_line(COLUMNS), *(_row(span) for span in self._spans)]
        try:
            replace_bytes(self.path, b"".join(rows))
        except OSError as error:
            raise explained(error, self.path) from error


def _row(span: Span) -> bytes:
    started, stopped = span.started, span.stopped
    return csv_line(
        [
            span.device,
            started.time,
            stopped.time if stopped else None,
            started.unix_time_s,
            stopped.unix_time_s if stopped else None,
            started.monotonic_s,
            stopped.monotonic_s if stopped else None,
        ]
    )
