"""The values of an encoder, a lick sensor, …: each a row of a CSV file as it comes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mda_writers.acquisition.csv_rows import csv_line
from mda_writers.errors import WriteError
from mda_writers.model.encode import csv_cell, from_csv_cell
from mda_writers.sinks.line_file import LineFile

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.acquisition.moment import Moment

CLOCKS = ("unix_time_s", "monotonic_s", "device_time")
OTHER = "other"
"""The last column: what a row has and the first one had not, as JSON."""


class DeviceLog:
    """A CSV file of one device; nothing of it is held in memory.

    The first payload decides the columns: its keys, or ``payload`` for a single value.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.refused = 0
        self.error: WriteError | None = None
        self.last: Moment | None = None
        self.closed = False
        self._names: list[str] = []
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = LineFile(path)

    def append(self, payload: Any, device_time: Any, now: Moment) -> None:
        """Write one row.

        Raises
        ------
        WriteError
            If the disk takes no more, or the log is closed. After the first failure every row is
            refused, so that none stands behind half a row.
        """
        named = _named(payload)
        with self._lock:
            if self.error is not None or self.closed:
                self.refused += 1
                raise self.error or WriteError(f"{self.path}: the session is closed.")
            try:
                if not self._names:
                    self._begin(named)
                self._file.append(self._row(named, device_time, now))
            except WriteError as error:
                self.error = error
                self.refused += 1
                raise
            self.rows += 1
            self.last = now

    def close(self) -> None:
        """Let go of the file; what is in it would survive a power cut."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            try:
                self._file.sync()
            except OSError as error:
                self.error = self.error or WriteError(f"{self.path}: {error}")
            finally:
                self._file.close()

    def _begin(self, named: dict[str, Any]) -> None:
        self._names = list(named)
        columns = [f"payload.{n}" if n in (*CLOCKS, OTHER) else n for n in self._names]
        self._file.append(csv_line([*CLOCKS, *columns, OTHER]))

    def _row(self, named: dict[str, Any], device_time: Any, now: Moment) -> bytes:
        other = {name: value for name, value in named.items() if name not in self._names}
        values = [named.get(name) for name in self._names]
        clocks = (now.unix_time_s, now.monotonic_s, device_time)
        return csv_line([*clocks, *values, other or None])


def _named(payload: Any) -> dict[str, Any]:
    """Return the payload's values by column."""
    try:
        named = dict(payload) if isinstance(payload, Mapping) else {}
    except Exception:  # a live object, as it may be anywhere
        named = {}
    columns: dict[str, Any] = {}
    for key, value in named.items():
        name = from_csv_cell(csv_cell(key))
        while name in columns:  # {1: …, "1": …}
            name += "_"
        columns[name] = value
    return columns or {"payload": payload}
