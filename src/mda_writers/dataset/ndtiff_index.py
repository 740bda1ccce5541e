"""What of an NDTiff folder's index is whole: it may still be being written, or was cut by a crash.

An entry is the length of the frame's axes, those as JSON, the length of its file's name, that name,
and eight numbers. Micro-Manager lays the index out with zeros beforehand, and cuts them off at the
end of an acquisition. Source: https://github.com/micro-manager/NDStorage .
"""

from __future__ import annotations

import struct

_LENGTH = struct.Struct("<I")
_NUMBERS_BYTES = 8 * 4


def whole_entries(index: bytes) -> bytes:
    """Return the entries of an index up to the first that is not there as a whole."""
    position = 0
    while (end := _end_of_entry(index, position)) is not None:
        position = end
    return index[:position]


def _end_of_entry(index: bytes, start: int) -> int | None:
    """Return where the entry that begins at `start` ends; None if it does not."""
    name = _behind_text(index, start)
    numbers = None if name is None else _behind_text(index, name)
    end = None if numbers is None else numbers + _NUMBERS_BYTES
    return None if end is None or end > len(index) else end


def _behind_text(index: bytes, start: int) -> int | None:
    """Return where a text ends that follows its length; None if there is none."""
    if start + _LENGTH.size > len(index):
        return None
    (length,) = _LENGTH.unpack_from(index, start)
    end = start + _LENGTH.size + int(length)
    return end if length and end <= len(index) else None
