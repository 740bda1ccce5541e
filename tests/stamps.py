"""Frames that carry their own index in their pixels, so that any mix-up can be seen.

A stamped frame has two parts. The *stamp*, three rows in the top left corner, says which index
the frame was taken at. The *pattern*, everywhere else, is noise that depends on that index: half
a frame, a shifted frame, a swapped byte order or one flipped bit no longer fits its stamp.

The stamp is made of plain numbers up to 255, so every dtype holds it exactly::

    row 0   is the axis there?   170 yes, 85 no (0 would make a blank frame look like a stamp)
    row 1   high byte of the value
    row 2   low byte of the value

with a column for each of ``AXES``, and one more for the number of significant bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

    Frame = NDArray[Any]

# "n" is the number of the acquisition: for events that have no index at all (see tests/engine.py)
AXES = ("t", "p", "g", "c", "z", "cam", "n")
SMALLEST = (16, 16)

_PRESENT, _ABSENT = 170, 85
_BITS_COLUMN = len(AXES)
_STAMP_SHAPE = (3, len(AXES) + 1)
_PERIOD = 65521  # so many different patterns; a prime, so that no axis falls into step with it


def stamp(
    index: Mapping[str, int],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    *,
    bit_depth: int | None = None,
) -> Frame:
    """Return the frame taken at *index*.

    Parameters
    ----------
    index : Mapping[str, int]
        Values from 0 to 65535. Axes that are not in ``AXES`` have no place in the stamp, but
        the pattern depends on them like on all others. The order of the axes does not matter.
    shape : tuple[int, ...]
        ``(y, x)`` or ``(y, x, 3)``, at least 16 x 16.
    dtype : DTypeLike
        Any integer or float type.
    bit_depth : int, optional
        Significant bits, for 12 bits in uint16 and the like. By default all that *dtype* has
        (16 for float, which all of them hold exactly).
    """
    if len(shape) not in (2, 3) or shape[0] < SMALLEST[0] or shape[1] < SMALLEST[1]:
        raise ValueError(f"A stamped frame is at least {SMALLEST} pixels, this one is {shape}.")
    frame = _pattern(index, shape, np.dtype(dtype), bit_depth or 0)
    mark = _encode(index, bit_depth or 0)
    frame[: mark.shape[0], : mark.shape[1]] = mark if len(shape) == 2 else mark[..., np.newaxis]
    return frame


def read_stamp(frame: Frame) -> dict[str, int]:
    """Return the index that the frame says it was taken at; ValueError if it says nothing."""
    index, _ = _decode(frame)
    return index


def check_stamp(frame: Frame, index: Mapping[str, int]) -> None:
    """Raise AssertionError, with a sentence, unless *frame* is bit for bit the one of *index*."""
    frame = np.asarray(frame)
    wanted = dict(sorted((str(axis), int(value)) for axis, value in index.items()))
    try:
        found, bit_depth = _decode(frame)
    except ValueError as error:
        raise AssertionError(f"No frame of {wanted} here: {error}") from None

    if found != {axis: value for axis, value in wanted.items() if axis in AXES}:
        raise AssertionError(f"The frame of {found} lies where {wanted} belongs.")
    expected = stamp(wanted, frame.shape, frame.dtype, bit_depth=bit_depth or None)
    if not np.array_equal(frame, expected):
        raise AssertionError(_difference(frame, expected, wanted))


def _encode(index: Mapping[str, int], bit_depth: int) -> NDArray[np.uint8]:
    present, high, low = [_ABSENT] * len(AXES), [0] * len(AXES), [0] * len(AXES)
    for axis, value in index.items():
        if not 0 <= value <= 0xFFFF:
            raise ValueError(f"A stamp holds 0 to 65535, not {axis}={value}.")
        if axis in AXES:
            column = AXES.index(axis)
            present[column], high[column], low[column] = _PRESENT, value >> 8, value & 0xFF
    return np.array([[*present, _PRESENT], [*high, 0], [*low, bit_depth]], np.uint8)


def _decode(frame: Frame) -> tuple[dict[str, int], int]:
    corner = np.asarray(frame)[: _STAMP_SHAPE[0], : _STAMP_SHAPE[1]]
    if corner.shape[:2] != _STAMP_SHAPE:
        raise ValueError(f"it is too small to carry a stamp: {np.shape(frame)}.")
    if corner.ndim == 3 and not (corner == corner[..., :1]).all():
        raise ValueError("its colours carry different stamps.")
    present, high, low = (corner if corner.ndim == 2 else corner[..., 0]).tolist()
    if present[_BITS_COLUMN] != _PRESENT or not {*present} <= {_PRESENT, _ABSENT}:
        raise ValueError(f"it carries no stamp (its first pixels are {present}).")
    index = {
        axis: int(high[column]) << 8 | int(low[column])
        for column, axis in enumerate(AXES)
        if present[column] == _PRESENT
    }
    return index, int(low[_BITS_COLUMN])


def _pattern(
    index: Mapping[str, int], shape: tuple[int, ...], dtype: np.dtype[Any], bit_depth: int
) -> Frame:
    """Return a fresh copy of the stretch of noise that belongs to *index*."""
    start = sum(_stride(axis) * (value + 1) for axis, value in index.items()) % _PERIOD
    size = int(np.prod(shape))
    return _noise(size, dtype, bit_depth)[start : start + size].reshape(shape).copy()


@lru_cache
def _stride(axis: str) -> int:
    # str(): the keys of useq's indices are members of an enum
    return crc32(str(axis).encode())


@lru_cache(maxsize=16)
def _noise(size: int, dtype: np.dtype[Any], bit_depth: int) -> Frame:
    """Return noise long enough for a frame of *size* values to begin anywhere in the period."""
    bits = bit_depth or (16 if dtype.kind == "f" else 8 * dtype.itemsize - (dtype.kind == "i"))
    values = np.random.default_rng(0).integers(0, 1 << bits, size + _PERIOD, dtype=np.uint64)
    return values.astype(dtype)


def _difference(frame: Frame, expected: Frame, index: dict[str, int]) -> str:
    wrong = np.argwhere(frame != expected)
    first = tuple(int(i) for i in wrong[0])
    return (
        f"The frame at {index} is not the one taken there, though its stamp says so: "
        f"{len(wrong)} of {frame.size} values differ, the first at {first}: "
        f"{frame[first]} instead of {expected[first]}."
    )
