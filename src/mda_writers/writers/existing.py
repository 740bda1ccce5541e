"""Names on disk: what belongs to a recording, and which name is still free."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from mda_writers.model.names import with_stem_suffix
from mda_writers.recording.replaced import find_existing, own_files, remove_file

if TYPE_CHECKING:
    from pathlib import Path


def free_path(path: Path) -> Path:
    """Return `path` if it is free, else the first free of ``name_1.ome.tiff``, ``name_2…``."""
    if not find_existing(path):
        return path
    for number in count(1):
        candidate = with_stem_suffix(path, f"_{number}")
        if not find_existing(candidate):
            return candidate
    raise AssertionError


def remove_existing(path: Path) -> None:
    """Remove the recording at `path` with all of its files, and nothing else."""
    for file in own_files(path):
        remove_file(file)
