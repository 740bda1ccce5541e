"""How full the queue and the disk were while a recording ran: a line in the journal now and then.

The lines stay few however long a recording is: after every `MOST_SAMPLES` the next come half as
often, and a reader (`taken_in`) lets go of every second one before.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from mda_writers.model.encode import to_json
from mda_writers.sinks.seal import sealed
from mda_writers.storage.space import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mda_writers.model.frame import PlacedFrame
    from mda_writers.sinks.line_file import LineFile

EVERY_S = 0.25
"""Time between two samples at first."""

MOST_SAMPLES = 1000
"""Samples that are kept of a recording, at most; about as many as a plot has pixels."""

LOAD_START = b'{"load":'


class LoadLog:
    """Notes the load of a recording in its journal.

    Parameters
    ----------
    journal : LineFile
        Where the lines go.
    folder : Path
        Where the recording goes, to ask how much is free there.
    queued_bytes, written_bytes : callable
        Tell the bytes of frames that wait in memory, and of those that are on disk.
    """

    def __init__(
        self,
        journal: LineFile,
        folder: Path,
        queued_bytes: Callable[[], int],
        written_bytes: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._folder = folder
        self._queued_bytes = queued_bytes
        self._written_bytes = written_bytes
        self._every_s = EVERY_S
        self._due = 0.0
        self._kept = 0

    def open(self) -> None:
        """Nothing to do before the first frame."""

    def write(self, placed: PlacedFrame) -> None:
        """Take a sample when one is due."""
        now = perf_counter()
        if now < self._due:
            return
        self._journal.append(sealed(LOAD_START + to_json(self._sample(now)) + b"}") + b"\n")
        self._kept += 1
        if self._kept == MOST_SAMPLES:
            self._kept = MOST_SAMPLES // 2
            self._every_s *= 2
        self._due = now + self._every_s

    def flush(self) -> bool:
        """Nothing is held back here."""
        return True

    def close(self) -> None:
        """Nothing to close: the journal is the frame table's."""

    def _sample(self, now: float) -> dict[str, Any]:
        return {
            "monotonic_s": now,
            "queued_bytes": self._queued_bytes(),
            "written_bytes": self._written_bytes(),
            "free_bytes": free_bytes(self._folder),
        }


def taken_in(samples: list[dict[str, Any]], sample: dict[str, Any]) -> None:
    """Add a sample to those read so far, such that they stay few and evenly spaced."""
    samples.append(sample)
    if len(samples) == MOST_SAMPLES:
        del samples[1::2]
