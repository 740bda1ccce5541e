"""What maximum projections are called, and the folder that they lie in."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from mda_writers.model.names import safe_name, split_suffix

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def projection_name(image_index: Mapping[str, int], index: Mapping[str, int], axes: str) -> str:
    """Return the name of a projection: ``P0000_CH00_000000``.

    Position, channel and time point, without those that are projected, and the plane (``Z0003``)
    where z is not; every further axis that makes images (grid tile, camera) follows the position,
    as ``G0003``.
    """
    parts = [f"P{image_index.get('p', 0):04d}"]
    parts += [
        f"{safe_name(axis).upper()}{i:04d}"
        for axis, i in sorted(image_index.items())
        if axis != "p"
    ]
    if "c" not in axes:
        parts.append(f"CH{index.get('c', 0):02d}")
    if "t" not in axes:
        parts.append(f"{index.get('t', 0):06d}")
    if "z" not in axes and "z" in index:
        parts.append(f"Z{index['z']:04d}")
    return "_".join(parts)


def free_folder(path: Path) -> Path:
    """Return the folder for the projections of the recording at `path`, which does not exist."""
    stem = split_suffix(path.name)[0]
    names = (f"{stem}_projections{f'_{n}' if n else ''}" for n in count())
    return next(path.with_name(n) for n in names if not path.with_name(n).exists())
