"""One moment on both clocks: the wall clock that people read, and one that never jumps."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class Moment(BaseModel):
    """A moment, read from both clocks at once.

    Attributes
    ----------
    time : str
        ISO 8601, with the offset of the local time zone.
    unix_time_s : float
        Seconds since 1970-01-01T00:00:00Z. May jump when somebody sets the clock.
    monotonic_s : float
        ``time.perf_counter()``, the clock of every frame's ``monotonic_s``: never jumps, its zero
        is arbitrary. Differences between devices of one session are taken from it.
    """

    model_config = ConfigDict(frozen=True)

    time: str
    unix_time_s: float
    monotonic_s: float

    @classmethod
    def now(cls) -> Moment:
        """Return this moment."""
        unix_time_s, monotonic_s = time.time(), time.perf_counter()
        local = datetime.fromtimestamp(unix_time_s, UTC).astimezone()
        return cls.model_construct(
            time=local.isoformat(timespec="milliseconds"),
            unix_time_s=unix_time_s,
            monotonic_s=monotonic_s,
        )
