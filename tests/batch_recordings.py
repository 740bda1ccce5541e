"""Small recordings for tests of the batch: stamped frames, written in direct mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mda_writers import BigTiffWriter
from stamps import stamp

if TYPE_CHECKING:
    from pathlib import Path


def recorded(
    path: Path, *, frames: int = 4, shape: tuple[int, ...] = (32, 32), **about: Any
) -> Path:
    """Write a recording of `frames` time points and two channels; return its path."""
    writer = BigTiffWriter(path)
    sizes = {"t": frames, "c": 2}
    writer.begin(
        shape[1], shape[0], dtype="uint16", sizes=sizes, channels=["DAPI", "FITC"], **about
    )
    for t in range(frames):
        for c in range(2):
            index = {"t": t, "c": c}
            writer.add_frame(
                stamp(index, shape, "uint16"), index=index, metadata={"note": f"{t}{c}"}
            )
    writer.finish()
    return path
