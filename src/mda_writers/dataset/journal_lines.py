"""Lines of a journal, many at once: a million of them are checked and placed in a second.

What takes time is the number of Python steps for each line. So every step is done here for all
lines of a block in one go. Blocks of 1 MiB stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import orjson

from mda_writers.dataset.line_ends import CLOSED, NOT_TOLD, is_told, places_and_slots
from mda_writers.sinks.seal import first_broken, is_intact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

BLOCK_BYTES = 1 << 20

FRAME_LINE = b'{"key":'
"""How the line of a frame begins."""

_FRAME = b',"frame":'


class AlteredLineError(ValueError):
    """A line is not as it was written; `row` counts it within its block."""

    def __init__(self, row: int) -> None:
        super().__init__(f"line {row} is altered")
        self.row = row


class ImageNumbers(dict[bytes, int]):
    """Numbers for the images that lines are about, by how the line starts; their keys in order."""

    def __init__(self) -> None:
        super().__init__()
        self.image_keys: list[str] = []

    def __missing__(self, head: bytes) -> int:
        self.image_keys.append(str(orjson.loads(head[len(FRAME_LINE) :])))
        self[head] = number = len(self)
        return number


@dataclass(frozen=True, slots=True)
class FrameLines:
    """What some lines say about frames, one row each, in order of arrival.

    Attributes
    ----------
    rows : array
        Numbers of the lines.
    at : array
        Where they begin in the journal.
    images : array
        Numbers of their images (`ImageNumbers`).
    places : array
        A column an axis, −1 where the image has fewer.
    slots : array
        A slot, `BY_PLACE` or `LEFT_OUT`.
    """

    rows: np.ndarray
    at: np.ndarray
    images: np.ndarray
    places: np.ndarray
    slots: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: np.ndarray) -> FrameLines:
        return FrameLines(*(getattr(self, name)[index] for name in self.__slots__))

    @classmethod
    def joined(cls, parts: Sequence[FrameLines]) -> FrameLines:
        """Return the lines of several parts, one after the other."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in cls.__slots__))


class LineBlock:
    """Whole lines of a journal, and where they are in it.

    Parameters
    ----------
    text : bytes
        The lines, each with its newline.
    row, at : int
        Number of the first line, and where it begins.
    """

    def __init__(self, text: bytes, row: int, at: int) -> None:
        self._lines = text.split(b"\n")
        self._lines.pop()  # behind the last newline there is nothing
        lengths = np.fromiter(map(len, self._lines), np.int64, len(self._lines)) + 1
        self._at = at + np.cumsum(lengths) - lengths
        self._first = row
        self._is_frame = [line.startswith(FRAME_LINE) for line in self._lines]

    def __len__(self) -> int:
        return len(self._lines)

    def others(self) -> Iterator[tuple[int, bytes]]:
        """Return the lines that are not about frames, each with its number.

        Raises
        ------
        AlteredLineError
            If one of them is not as it was sealed.
        """
        for n, line in enumerate(self._lines):
            if not self._is_frame[n]:
                if not is_intact(line):
                    raise AlteredLineError(self._first + n)
                yield self._first + n, line

    def frames(self, images: ImageNumbers) -> FrameLines:
        """Return what the other lines say.

        Raises
        ------
        AlteredLineError
            If one of them is not as it was sealed.
        """
        lines = list(compress(self._lines, self._is_frame))
        rows = np.flatnonzero(self._is_frame)
        broken = first_broken(lines, CLOSED)
        if broken is not None:
            raise AlteredLineError(self._first + int(rows[broken]))
        try:
            places, slots = places_and_slots(lines)
            heads = [line[: line.index(_FRAME)] for line in lines]
        except NOT_TOLD as error:
            odd = next(n for n, line in enumerate(lines) if not is_told(line))
            raise AlteredLineError(self._first + int(rows[odd])) from error
        numbers = np.fromiter(map(images.__getitem__, heads), np.int64, len(lines))
        return FrameLines(self._first + rows, self._at[rows], numbers, places, slots)


def whole_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Return the rest of a file in blocks of whole lines; a last one without its end is left."""
    rest = b""
    while chunk := stream.read(BLOCK_BYTES):
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if end:
            yield text[:end]
