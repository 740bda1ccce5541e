"""The sidecar: every frame's metadata by position, in one JSON file, at the end."""

from __future__ import annotations

from array import array
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
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

LINES_READ = 256
"""Read at a time where one follows the other."""

HEADING_END = b": ["
"""How the line before an image's frames ends."""


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
    """Return the key and the metadata of every frame; see `SidecarIndex.frames`."""
    return SidecarIndex(sidecar).frames(altered, trusting=trusting)


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
    """The frames of one image."""

    key: str
    heading: bytes  # the key as it is in the file
    row: int  # number of the heading's line
    starts: np.ndarray  # where the frames' lines begin
    ends: np.ndarray
    is_closed: bool
    numbers: dict[tuple[int, ...], int] | None = None  # place → number, once asked for


class SidecarIndex:
    """Reads ``{key: [frame, …]}`` with one frame per line: all frames, or any of them.

    Nothing is read before the first frame is asked for; then, where lines begin.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, key: str, place: tuple[int, ...], guess: int) -> dict[str, Any]:
        """Return the metadata of a frame.

        `guess` is its number among the image's frames if they came in the order of the axes.

        Raises
        ------
        CorruptRecordingError
            If the sidecar is cut or altered, so that the frame is not in it.
        """
        section = self._section(key)
        if guess < len(section.starts):
            frame = self._parse(section, guess)
            if _place(frame) == place:
                return frame
        if section.numbers is None:
            section.numbers = {
                _place(self._parse(section, n)): n for n in range(len(section.starts))
            }
        number = section.numbers.get(place)
        if number is None:
            raise self._corrupt(f"there is nothing about the frame of {key!r} at {place}")
        return self._parse(section, number)

    def frames(
        self, altered: list[int] | None = None, *, trusting: bool = False
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame, few of them in memory at a time.

        Parameters
        ----------
        altered : list of int, optional
            Takes the numbers of the lines that are not as they were written; without it they are
            an error.
        trusting : bool
            Whether the frames of such lines are returned all the same, as far as they can be read.

        Raises
        ------
        CorruptRecordingError
            If the file is cut or altered.
        """
        for section in self._sections:
            for number, text in self._lines(section, 0, len(section.starts), LINES_READ):
                frame, is_sound = _checked(section, text)
                if not is_sound:
                    row = section.row + 1 + number
                    if altered is None:
                        raise self._corrupt(f"line {row} is altered")
                    altered.append(row)
                if frame is not None and (is_sound or trusting):
                    yield section.key, frame
        if self._is_cut or not all(section.is_closed for section in self._sections):
            raise self._corrupt("the end is missing; the file was cut")

    def frames_in_order(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the same in the order in which they came, one frame per image in memory."""
        return merge(
            *(self._frames(each, 0, len(each.starts), 1) for each in self._sections), key=_number
        )

    def counts(self) -> dict[str, int]:
        """Return the number of frames of each image."""
        return {section.key: len(section.starts) for section in self._sections}

    def frames_between(
        self, key: str, begin: int, end: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return frames ``begin`` to ``end`` of an image, the end not included."""
        return self._frames(self._section(key), begin, end, LINES_READ)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    # ------------------------------------------------------------ helpers

    @cached_property
    def _by_key(self) -> dict[str, _Section]:
        return {section.key: section for section in reversed(self._sections)}

    def _section(self, key: str) -> _Section:
        if key not in self._by_key:
            raise self._corrupt(f"there is nothing about image {key!r}")
        return self._by_key[key]

    @cached_property
    def _scan(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            return _line_ends(self.path)
        except FileNotFoundError as error:
            raise CorruptRecordingError(
                f"{self.path}: missing. The pixels can be read without it, the frames' "
                "metadata cannot."
            ) from error

    @property
    def _is_cut(self) -> bool:
        ends, _, last = self._scan
        return not len(ends) or last[-1] != ord("}") or ends[-1] + 1 != self.path.stat().st_size

    @cached_property
    def _sections(self) -> list[_Section]:
        """The lines, cut into sections: each from its heading to the closing bracket."""
        ends, first, last = self._scan
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
        closing = set(np.flatnonzero(first == ord("]")).tolist())
        headings = {
            int(row): line
            for row in np.flatnonzero(last == ord("["))
            if (line := self._read(int(starts[row]), int(ends[row]))).endswith(HEADING_END)
        }
        bounds = np.array(sorted({*closing, *headings, len(ends)}))
        sections = []
        for row, line in headings.items():
            stop = int(bounds[np.searchsorted(bounds, row, side="right")])
            frames, text = slice(row + 1, stop), line.lstrip(b"{")[: -len(HEADING_END)]
            try:
                key = str(orjson.loads(text))
            except orjson.JSONDecodeError as error:
                raise self._corrupt(f"the heading in line {row + 1} is altered") from error
            sections.append(
                _Section(key, text, row + 1, starts[frames], ends[frames], stop in closing)
            )
        return sections

    def _frames(
        self, section: _Section, begin: int, end: int, at_once: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, text in self._lines(section, begin, end, at_once):
            yield section.key, self._sound(section, number, text)

    def _parse(self, section: _Section, number: int) -> dict[str, Any]:
        begin, end = int(section.starts[number]), int(section.ends[number])
        return self._sound(section, number, self._read(begin, end))

    def _sound(self, section: _Section, number: int, text: bytes) -> dict[str, Any]:
        frame, is_sound = _checked(section, text)
        if frame is None or not is_sound:
            raise self._corrupt(f"line {section.row + 1 + number}, of a frame, is altered")
        return frame

    def _lines(
        self, section: _Section, begin: int, end: int, at_once: int
    ) -> Iterator[tuple[int, bytes]]:
        """Return the number and the text of frames' lines; no file is kept open meanwhile."""
        for first in range(begin, end, at_once):
            chosen = slice(first, min(first + at_once, end))
            starts, ends = section.starts[chosen].tolist(), section.ends[chosen].tolist()
            text = self._read(starts[0], ends[-1])
            for number, (a, b) in enumerate(zip(starts, ends, strict=True), first):
                yield number, text[a - starts[0] : b - starts[0]]

    def _read(self, begin: int, end: int) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(begin)
            return stream.read(end - begin)

    def _corrupt(self, what: str) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self.path}: cut or altered ({what}). The pixels are not concerned; copy the file "
            "again if this is a copy."
        )


def _checked(section: _Section, text: bytes) -> tuple[dict[str, Any] | None, bool]:
    """Return the frame of a line as far as it can be read, and whether it is as it was written."""
    text = text.rstrip(b",")
    try:
        frame = dict(orjson.loads(text))
        _place(frame)
    except (ValueError, KeyError, TypeError):
        return None, False
    return frame, is_intact(b'{"key":' + section.heading + b',"frame":' + text)


def _place(frame: dict[str, Any]) -> tuple[int, ...]:
    return tuple(frame["mda_writers"]["place"])


def _number(entry: tuple[str, dict[str, Any]]) -> int:
    return int(entry[1]["mda_writers"]["number"])


def _line_ends(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the lines of a file end, and the first and the last character of each."""
    ends, first, last, offset, before = [], [], [], 0, b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(SCAN_BYTES):
            data = np.frombuffer(before + chunk, np.uint8)
            is_end = data == ord("\n")
            found = np.flatnonzero(is_end[1:])
            ends.append(found + offset)
            last.append(data[found])
            first.append(data[1:][is_end[:-1]])
            offset, before = offset + len(chunk), chunk[-1:]
    if not ends:
        return np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint8)
    lines = np.concatenate(ends)
    return lines, np.concatenate(first)[: len(lines)], np.concatenate(last)
