"""One frame's metadata out of a sidecar of any size: lines are found, not parsed."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_json
from mda_writers.sinks.seal import is_intact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCAN_BYTES = 32 << 20
"""Read at a time while line ends are looked for."""


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
