"""Parts: where one large recording is cut, so that many hands can work on it.

Where parts begin and end depends on the recording alone, so that what a killed batch had made
of them is of use to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

PART_BYTES = 2 << 30
"""Pixels of a part: seconds of work on a fast disk, half a minute over a slow network. It is what
is done again when a worker dies."""


@dataclass(frozen=True, slots=True)
class Block:
    """Frames ``begin`` to ``end`` (not included) of an image, as whoever made it counts them."""

    key: str
    begin: int
    end: int


def blocks_of(key: str, frames: int, frame_bytes: int, step: int = 1) -> list[Block]:
    """Cut the frames of an image into parts.

    Parameters
    ----------
    key : str
        The image.
    frames : int
        How many there are.
    frame_bytes : int
        Bytes of each.
    step : int
        Every part but the last has a multiple of that many frames, if they fit into one.
    """
    room = PART_BYTES // max(1, frame_bytes)
    step = step if step <= room else 1
    size = max(1, room // step) * step
    return [Block(key, n, min(n + size, frames)) for n in range(0, frames, size)]


def are_worth_it(nbytes: int) -> bool:
    """Whether files of so many bytes make at least two parts."""
    return nbytes >= 2 * PART_BYTES
