"""Place and slot of frames, out of the ends of many lines of a journal.

At the end of a line is what this package added to the frame; all before it is left unparsed.
Objects made by the million would have Python's garbage collector walk the heap again and again,
which took longer than all else: lines of one form, as those of a recording are, give none but
bytes and two lists of numbers.
"""

from __future__ import annotations

from itertools import compress, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mda_writers.dataset.sources import LEFT_OUT
from mda_writers.model.layout import AXES
from mda_writers.model.plane import slot_of
from mda_writers.recording.runs import BY_PLACE
from mda_writers.sinks.seal import SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_TOLD = (LookupError, TypeError, ValueError)
"""What becomes of a line that does not say where its frame is."""

CLOSED = 2
"""Braces behind the seal's object, which is that of the additions: the frame's and the line's."""

_PLACE, _OURS = b',"place":[', "mda_writers"
_SLOTS = b',"ifd":', b',"frame":'
_LEFT_OUT = b',"saved":false'
_NO_AXIS = -1


def places_and_slots(lines: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the frames of some lines belong, and where they lie in their files.

    Parameters
    ----------
    lines : sequence of bytes
        Without their newlines, each with its seal intact.

    Returns
    -------
    places : array
        A row a line, and a column for every axis that there can be; −1 where there are fewer.
    slots : array
        A number in the file, `BY_PLACE` or `LEFT_OUT`.

    Raises
    ------
    LookupError, TypeError, ValueError
        If a line says nothing of the kind.
    """
    ends = [line[line.rindex(_PLACE) + len(_PLACE) : -SEAL_BYTES - CLOSED] for line in lines]
    plain = _plain_numbers(ends)
    if plain is not None:
        return plain
    additions = [orjson.loads(line)["frame"][_OURS] for line in lines]
    columns = list(zip_longest(*(ours["place"] for ours in additions), fillvalue=_NO_AXIS))
    places = np.array(columns, np.int64).T.reshape(len(lines), len(columns))
    return _widened(places), np.fromiter(map(_slot, additions), np.int64, len(lines))


def is_told(line: bytes) -> bool:
    """Return whether a line says where its frame is."""
    try:
        places_and_slots([line])
    except NOT_TOLD:
        return False
    return True


def _plain_numbers(ends: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return places and slots of lines that are all of one form; None if they are not."""
    together = b"".join(ends)
    names = [name for name in _SLOTS if name in together]
    if b"{" in together or len(names) > 1:
        return None
    kept = np.ones(len(ends), bool)
    if _LEFT_OUT in together:
        kept = np.array([_LEFT_OUT not in end for end in ends], bool)
    slots = np.where(kept, BY_PLACE, LEFT_OUT)
    try:
        if names:
            stored = ends if kept.all() else list(compress(ends, kept))
            slots[kept] = _numbers_after(names[0], stored)
        return _widened(_places(ends)), slots
    except ValueError:
        return None


def _numbers_after(name: bytes, ends: Sequence[bytes]) -> np.ndarray:
    n = len(name)
    texts = [end[(i := end.index(name) + n) : end.index(b",", i)] for end in ends]
    return np.array(orjson.loads(b"[" + b",".join(texts) + b"]"), np.int64)


def _places(ends: Sequence[bytes]) -> np.ndarray:
    """Return places that all have as many axes.

    Raises
    ------
    ValueError
        If they differ.
    """
    texts = [end[: end.index(b"]")] for end in ends]
    if len({text.count(b",") for text in texts}) != 1:
        raise ValueError("places in images of several kinds")
    numbers = orjson.loads(b"[" + b",".join(texts) + b"]")
    return np.array(numbers, np.int64).reshape(len(texts), -1)


def _widened(places: np.ndarray) -> np.ndarray:
    """Return places with a column for every axis that there can be."""
    table = np.full((len(places), len(AXES)), _NO_AXIS, np.int64)
    table[:, : places.shape[1]] = places
    return table


def _slot(ours: Mapping[str, Any]) -> int:
    return slot_of(ours, BY_PLACE) if ours.get("saved", True) else LEFT_OUT
