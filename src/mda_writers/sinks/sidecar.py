"""The sidecar: every frame's metadata by position, in one JSON file, at the end.

What was said about the recording as a whole in ``finish(extra_metadata)`` stands beside the
positions, in a line before the first of them.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_json
from mda_writers.sinks.journal import JOURNAL_SUFFIX, sound_lines, split_frame_line
from mda_writers.sinks.seal import is_intact
from mda_writers.storage.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
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


def write_sidecar(
    journal: Path, sidecar: Path, extra_metadata: Mapping[str, Any] | None = None
) -> None:
    """Write ``{position key: [frame, …]}`` from the journal, one frame per line.

    Where an entry of `extra_metadata` has the name of a position, it is called
    ``extra_metadata.<name>``: tools look for the frames under the position's own.

    The lines are copied as they are, position after position: a recording of a million frames
    needs a list of places in memory, not the frames. Altered lines are not among them.
    """
    places = _places_by_key(journal)
    with journal.open("rb") as source, replacing(sidecar) as target:
        begun = _beginning(extra_metadata or {}, places)
        target.write(begun)
        for number, (key, spans) in enumerate(places.items()):
            target.write(b",\n" * (number > 0 or len(begun) > 1) + key + b": [\n")
            for n, (offset, nbytes) in enumerate(zip(spans[::2], spans[1::2], strict=True)):
                source.seek(offset)
                target.write(b",\n" * (n > 0) + split_frame_line(source.read(nbytes))[1])
            target.write(b"\n]")
        target.write(b"}\n")


def read_sidecar(
    sidecar: Path, altered: list[int] | None = None, *, trusting: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the key and the metadata of every frame, one frame in memory at a time.

    Parameters
    ----------
    sidecar : Path
        The sidecar.
    altered : list of int, optional
        Takes the numbers of the lines that are not as they were written; without it they are an
        error.
    trusting : bool
        Whether the frames of such lines are returned all the same, as far as they can be read.

    Raises
    ------
    CorruptRecordingError
        If the file is cut or altered.
    """
    key, heading, inside, line = "", b"", False, b""
    with sidecar.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b": [\n"):
                heading, inside = line.lstrip(b"{")[: -len(b": [\n")], True
                key = _heading(heading, sidecar)
            elif line.startswith(b"]"):
                inside = False
            elif inside:
                text = line.rstrip(b",\n")
                intact = is_intact(b'{"key":' + heading + b',"frame":' + text)
                frame = _parsed(text) if intact or trusting else None
                if frame is not None:
                    yield key, frame
                if intact and frame is not None:
                    continue
                if altered is None:
                    raise CorruptRecordingError(f"{sidecar}: line {number} is altered.")
                altered.append(number)
    if inside or not line.endswith(b"}\n"):
        raise CorruptRecordingError(f"{sidecar}: the end is missing; the file was cut.")


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        return dict(orjson.loads(text))
    except (ValueError, TypeError):
        return None


def _heading(text: bytes, sidecar: Path) -> str:
    try:
        return str(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise CorruptRecordingError(f"{sidecar}: a heading is altered ({error}).") from error


def read_extra_metadata(sidecar: Path) -> dict[str, Any]:
    """Return what stands beside the frames; nothing where there is no such file."""
    if not sidecar.exists():
        return {}
    with sidecar.open("rb") as stream:
        line = stream.readline()
    with suppress(orjson.JSONDecodeError):  # the first position's line, or damage
        # the object goes on with the positions, unless there are none
        return dict(orjson.loads(line if line.endswith(b"}\n") else line.rstrip(b",\n") + b"}"))
    return {}


def _beginning(extra_metadata: Mapping[str, Any], keys: Iterable[bytes]) -> bytes:
    """Return the object's beginning, with what is beside the positions."""
    taken = {orjson.loads(key) for key in keys}
    named: dict[str, Any] = {}
    for name, value in orjson.loads(to_json(dict(extra_metadata))).items():
        free = name
        while free in taken:
            free = f"extra_metadata.{free}"
        taken.add(free)
        named[free] = value
    return orjson.dumps(named)[:-1]


def _places_by_key(journal: Path) -> dict[bytes, array[int]]:
    """Return where the frame lines of each image begin, and their lengths."""
    places: defaultdict[bytes, array[int]] = defaultdict(lambda: array("q"))
    for offset, line in sound_lines(journal):
        if line.startswith(b'{"key":'):
            places[split_frame_line(line)[0]].extend((offset, len(line)))
    return dict(places)
