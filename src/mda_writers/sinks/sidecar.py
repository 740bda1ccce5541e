"""The sidecar: every frame's metadata by position, in one JSON file, at the end."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.sinks.journal import JOURNAL_SUFFIX, split_frame_line
from mda_writers.storage.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIDECAR_SUFFIX = "_frame_metadata.json"
RECORDING_SUFFIX = "_recording.json"
"""What concerns the recording as a whole: its report, layout, sequence, summary metadata."""


def journal_path(path: Path) -> Path:
    """Return the journal of the recording at `path`."""
    return path.with_name(path.name + JOURNAL_SUFFIX)


def sidecar_path(path: Path) -> Path:
    """Return the sidecar of the recording at `path`."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def recording_path(path: Path) -> Path:
    """Return the file with the report of the recording at `path`."""
    return path.with_name(path.name + RECORDING_SUFFIX)


def write_sidecar(journal: Path, sidecar: Path) -> None:
    """Write ``{position key: [frame, …]}`` from the journal, one frame a line.

    The lines are copied as they are, position after position: a recording of a million frames
    needs a list of places in memory, not the frames.
    """
    places = _places_by_key(journal)
    with journal.open("rb") as source, replacing(sidecar) as target:
        target.write(b"{")
        for number, (key, offsets) in enumerate(places.items()):
            target.write(b",\n" * (number > 0) + key + b": [\n")
            for n, offset in enumerate(offsets):
                source.seek(offset)
                target.write(b",\n" * (n > 0) + split_frame_line(source.readline())[1])
            target.write(b"\n]")
        target.write(b"}\n")


def read_sidecar(sidecar: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the key and the metadata of every frame, one frame in memory at a time.

    Raises
    ------
    CorruptRecordingError
        If the file is cut or altered.
    """
    key, line = "", b""
    with sidecar.open("rb") as stream:
        try:
            for line in stream:
                if line.endswith(b": [\n"):
                    key = orjson.loads(line.lstrip(b"{")[: -len(b": [\n")])
                elif line.startswith(b"{") and line != _EMPTY:
                    yield key, orjson.loads(line.rstrip(b",\n"))
        except orjson.JSONDecodeError as error:
            raise CorruptRecordingError(f"{sidecar}: a line is altered ({error}).") from error
    if line not in (b"]}\n", _EMPTY):
        raise CorruptRecordingError(f"{sidecar}: the end is missing; the file was cut.")


_EMPTY = b"{}\n"


def _places_by_key(journal: Path) -> dict[bytes, list[int]]:
    """Return where the frame lines of each key begin."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    offset = 0
    with journal.open("rb") as stream:
        for line in stream:
            if line.startswith(b'{"key":') and line.endswith(b"}\n"):
                places[split_frame_line(line)[0]].append(offset)
            offset += len(line)
    return dict(places)
