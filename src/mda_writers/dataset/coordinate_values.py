"""What a frame's coordinates may be called, and what is said where there is no such frame."""

from __future__ import annotations

Value = int | str

ALIASES = {
    "time": "t",
    "channel": "c",
    "position": "p",
    "grid": "g",
    "camera": "cam",
    "column": "col",
}


class CoordinateError(LookupError):
    """There is no such axis, value, or frame; the text lists what there is."""


class MissingFrameError(CoordinateError):
    """There is no such value, or no frame on disk for it."""
