"""Notes, clock times and the configuration of a session, in files of their own."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ConfigDict
from useq import MDAEvent, MDASequence

from mda_writers.model.encode import (
    csv_cell,
    event_dict,
    from_csv_cell,
    sequence_dict,
    to_indented_json,
    to_json,
)
from mda_writers.storage.disk_space import explained
from mda_writers.storage.files import FileLock, LineFile, replace_bytes, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus


NOTE_COLUMNS = ("time", "unix_time_s", "monotonic_s", "note")

TIMESTAMP_COLUMNS = (
    "device",
    "started",
    "stopped",
    "started_unix_time_s",
    "stopped_unix_time_s",
    "started_monotonic_s",
    "stopped_monotonic_s",
)

CONFIGURATION_COLUMNS = ("section", "device", "name", "value")


class Notes:
    """A CSV file of notes, held by one session as long as it goes on.

    Parameters
    ----------
    path : Path
        The file. It must not exist: it is also what reserves a session's names.

    Raises
    ------
    FileExistsError
        If it does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LineFile(path)
        self._lock = threading.Lock()
        self._held: FileLock | None = None
        # where the file system has no locks, the manifest's process shows it less reliably
        with suppress(OSError):
            self._held = FileLock(path)
        self._file.append(csv_line(NOTE_COLUMNS))

    def add(self, text: str) -> Moment:
        """Write a note; it would survive a power cut on return.

        Raises
        ------
        WriteError
            If it could not be written.
        """
        now = Moment.now()
        with self._lock:
            self._file.append(csv_line([now.time, now.unix_time_s, now.monotonic_s, text]))
            self._file.sync()
        return now

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        if self._held is not None:
            self._held.release()
            self._held = None


@dataclass(slots=True)
class Span:
    """From when to when a device recorded; it has not stopped where `stopped` is None."""

    device: str
    started: Moment
    stopped: Moment | None = None


class Timestamps:
    """The file ``timestamps.csv``: complete at every moment, a row per recording.

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
        rows = [csv_line(TIMESTAMP_COLUMNS), *(_row(span) for span in self._spans)]
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


def read_configuration(core: CMMCorePlus, sequence: Any) -> dict[str, Any]:
    """Return what `core` is set to and what it is about to do, in plain types.

    ``devices`` (each with its properties), ``config_groups``, ``pixel_size_configs``,
    ``system_info``, … are those of pymmcore-plus's ``SummaryMetaV1``; ``sequence`` is the sequence
    or the list of events, and None where events are made one by one (each frame's metadata then
    has its own).
    """
    from pymmcore_plus.metadata import summary_metadata

    summary = {k: v for k, v in summary_metadata(core).items() if k != "mda_sequence"}
    plain: dict[str, Any] = orjson.loads(to_json({**summary, "sequence": _plan(sequence)}))
    return plain


def write_json(path: Path, configuration: Mapping[str, Any]) -> None:
    """Write a configuration as JSON, for programs."""
    with replacing(path) as stream:
        stream.write(to_indented_json(configuration))


def write_csv(path: Path, configuration: Mapping[str, Any]) -> None:
    """Write the devices, their properties and the sequence as CSV, for people and spreadsheets."""
    with replacing(path) as stream:
        stream.write(csv_line(CONFIGURATION_COLUMNS))
        for row in _rows(configuration):
            stream.write(csv_line(row))


def _plan(sequence: Any) -> Any:
    if isinstance(sequence, MDASequence):
        return sequence_dict(sequence)
    if isinstance(sequence, list | tuple):
        return [event_dict(e) if isinstance(e, MDAEvent) else e for e in sequence]
    return None


def _rows(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    for device in configuration.get("devices") or ():
        label = str(device.get("label", ""))
        for name, value in device.items():
            if name not in ("label", "properties"):
                yield "device", label, name, value
        for prop in device.get("properties") or ():
            yield "property", label, str(prop.get("name", "")), prop.get("value")
    for name, value in _flat("", configuration.get("sequence")):
        yield "sequence", "", name, value


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Return the leaves of a structure, each with its way there: ``channels.0.config``."""
    if isinstance(value, Mapping) and value:
        items = list(value.items())
    elif isinstance(value, list) and value:
        items = list(enumerate(value))
    else:
        yield name, value
        return
    for key, inner in items:
        yield from _flat(f"{name}.{key}" if name else str(key), inner)


def csv_line(values: Iterable[Any]) -> bytes:
    """Return one row with its newline, in UTF-8."""
    text = io.StringIO()
    # its default ends lines with CR LF (RFC 4180), and only so it quotes a text with a CR in it
    csv.writer(text).writerow([csv_cell(value) for value in values])
    return text.getvalue().encode()


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """Return the rows of a file by column, one in memory at a time.

    The torn last row of a killed process is none.
    """
    whole = _ends_with_newline(path)
    before: dict[str, str] | None = None
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if before is not None:
                yield before
            before = {_given(name): _given(text) for name, text in row.items()}
    if before is not None and whole:
        yield before


def _given(text: Any) -> Any:
    # more cells than columns make a list, fewer of them None
    return from_csv_cell(text) if isinstance(text, str) else text


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, io.SEEK_END) == 0:
            return False
        stream.seek(-1, io.SEEK_END)
        return stream.read(1) == b"\n"


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
