"""The sidecar: every frame's metadata by position, in one JSON file, at the end."""

from __future__ import annotations

from array import array
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_json
from mda_writers.recording.journal import JournalLines, is_intact, split_frame_line
from mda_writers.storage.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


SCAN_BYTES = 32 << 20
"""Read at a time while line ends are looked for."""


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
    for block in JournalLines(journal).blocks(to_end=True):
        for offset, line in zip(block.at.tolist(), block.frames, strict=True):
            places[split_frame_line(line)[0]].extend((offset, len(line)))
    return dict(places)


@dataclass(slots=True)
class _Section:
    """The frames of one image: where their lines begin and end, and, once asked, their places."""

    key: bytes
    starts: np.ndarray
    ends: np.ndarray
    numbers: dict[tuple[int, ...], int] | None = None


class SidecarIndex:
    """Finds frames in ``{key: [frame, …]}`` with one frame a line.

    Nothing is read before the first frame is asked for.

    Parameters
    ----------
    path : Path
        The sidecar.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sections: dict[str, _Section] | None = None

    def find(self, key: str, place: tuple[int, ...], guess: int) -> dict[str, Any]:
        """Return the metadata of a frame.

        Parameters
        ----------
        key, place
            The frame.
        guess : int
            Its number among the image's frames if they came in the order of the axes.

        Raises
        ------
        CorruptRecordingError
            If the sidecar is cut or altered, so that the frame is not in it.
        """
        section = self._all().get(key)
        if section is None:
            raise self._corrupt(f"there is nothing about image {key!r}")
        if guess < len(section.starts):
            frame = self._parse(section, guess)
            if _place(frame) == place:
                return frame
        number = self._numbers(section).get(place)
        if number is None:
            raise self._corrupt(f"there is nothing about the frame of {key!r} at {place}")
        return self._parse(section, number)

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return every frame with the key of its image."""
        for key in self._all():
            yield from self._frames_of(key)

    def frames_in_order(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the same in the order in which they came, one frame an image in memory."""
        return merge(*map(self._frames_of, self._all()), key=_number)

    def counts(self) -> dict[str, int]:
        """Return the number of frames of each image."""
        return {key: len(section.starts) for key, section in self._all().items()}

    def frames_between(
        self, key: str, begin: int, end: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return frames ``begin`` to ``end`` of an image, the end not included."""
        for number in range(begin, end):
            yield key, self._parse(self._all()[key], number)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_sections": None}

    # ------------------------------------------------------------ helpers

    def _frames_of(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return self.frames_between(key, 0, self.counts()[key])

    def _all(self) -> dict[str, _Section]:
        if self._sections is None:
            try:
                ends, last = _line_ends(self.path)
            except FileNotFoundError as error:
                raise CorruptRecordingError(
                    f"{self.path}: missing. The pixels can be read without it, the frames' "
                    "metadata cannot."
                ) from error
            self._sections = self._split(ends, last)
        return self._sections

    def _split(self, ends: np.ndarray, last: np.ndarray) -> dict[str, _Section]:
        """Cut the lines into sections; a heading is the only line that ends with a bracket."""
        sections = {}
        headings = np.flatnonzero(last == ord("["))
        for n, heading in enumerate(headings):
            stop = headings[n + 1] if n + 1 < len(headings) else len(ends)
            begin = 0 if heading == 0 else int(ends[heading - 1]) + 1
            frames = slice(heading, stop - 2)  # behind the last frame is the closing bracket
            key = self._key(begin, int(ends[heading]))
            sections[key] = _Section(to_json(key), ends[:-1][frames] + 1, ends[1:][frames])
        return sections

    def _key(self, begin: int, end: int) -> str:
        heading = self._read(begin, end).lstrip(b"{,\n ")
        try:
            (key,) = orjson.loads(b"{" + heading + b"]}")
        except ValueError as error:
            raise self._corrupt(f"the heading at byte {begin} is altered") from error
        return str(key)

    def _numbers(self, section: _Section) -> dict[tuple[int, ...], int]:
        if section.numbers is None:
            section.numbers = {
                _place(self._parse(section, n)): n for n in range(len(section.starts))
            }
        return section.numbers

    def _parse(self, section: _Section, number: int) -> dict[str, Any]:
        begin, end = int(section.starts[number]), int(section.ends[number])
        try:
            text = self._read(begin, end).rstrip(b",\n")
            frame = orjson.loads(text)
            _place(frame)
            if not is_intact(b'{"key":' + section.key + b',"frame":' + text):
                raise ValueError("its seal is broken")
        except (ValueError, KeyError, TypeError) as error:
            raise self._corrupt(f"the line of a frame at byte {begin} is altered") from error
        return dict(frame)

    def _read(self, begin: int, end: int) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(begin)
            return stream.read(end - begin)

    def _corrupt(self, what: str) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self.path}: cut or altered ({what}). The pixels are not concerned; copy the file "
            "again if this is a copy."
        )


def _place(frame: dict[str, Any]) -> tuple[int, ...]:
    return tuple(frame["mda_writers"]["place"])


def _number(entry: tuple[str, dict[str, Any]]) -> int:
    return int(entry[1]["mda_writers"]["number"])


def _line_ends(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return where the lines of a file end, and the last character of each."""
    ends, last, offset, before = [], [], 0, b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(SCAN_BYTES):
            data = np.frombuffer(before + chunk, np.uint8)
            found = np.flatnonzero(data[1:] == ord("\n"))
            ends.append(found + offset)
            last.append(data[found])
            offset, before = offset + len(chunk), chunk[-1:]
    if not ends:
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    return np.concatenate(ends), np.concatenate(last)
