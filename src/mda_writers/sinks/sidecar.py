"""The sidecar: every frame's metadata by position, in one JSON file, at the end."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mda_writers.sinks.journal import JOURNAL_SUFFIX, split_frame_line
from mda_writers.storage.atomic import replacing

if TYPE_CHECKING:
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
