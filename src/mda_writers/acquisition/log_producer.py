"""The log of a device as the manifest and the timestamps know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mda_writers.acquisition.device_log import DeviceLog
from mda_writers.acquisition.file_entries import entries, place
from mda_writers.acquisition.manifest import Producer, Recording
from mda_writers.acquisition.moment import Moment

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.acquisition.manifest import RecordingStatus
    from mda_writers.acquisition.timestamps import Timestamps


class LogProducer:
    """A log of the session.

    Parameters
    ----------
    device, data_type : str
        As the user gave them.
    path : Path
        The log's file, which must not exist.
    timestamps : Timestamps
        Is told when the first row came, and when the last one.
    now : Moment
        When the first row came.
    """

    def __init__(
        self, device: str, data_type: str, path: Path, timestamps: Timestamps, now: Moment
    ) -> None:
        self.device = device
        self._data_type = data_type
        self._timestamps = timestamps
        self._span = timestamps.start(device, now)
        self._log = DeviceLog(path)

    def append(self, payload: Any, device_time: Any, now: Moment) -> None:
        """Write one row; see `DeviceLog.append`."""
        self._log.append(payload, device_time, now)

    def close(self) -> None:
        """Close the log.

        Raises
        ------
        WriteError
            If a row was refused, or the disk does not take the rest.
        """
        self._log.close()
        self._timestamps.stop(self._span, self._log.last or Moment.now())
        if self._log.error is not None:
            raise self._log.error

    def entry(self, folder: Path) -> Producer:
        """Return what is known now, with paths relative to `folder`."""
        log = self._log
        status: RecordingStatus = "complete" if log.closed else "recording"
        recording = Recording(
            status="failed" if log.error else status,
            complete=log.closed and not log.error,
            rows_written=log.rows,
            rows_refused=log.refused,
            error=str(log.error or ""),
            started=self._span.started,
            stopped=self._span.stopped,
            files=entries([log.path], folder),
            **place(log.path, folder),
        )
        return Producer(
            device=self.device,
            kind="log",
            data_type=self._data_type,
            written_by=type(log).__name__,
            complete=recording.complete,
            error=recording.error,
            recordings=[recording],
        )
