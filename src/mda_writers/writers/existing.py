"""Names on disk: what belongs to a recording, and which name is still free."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from mda_writers.model.names import with_stem_suffix
from mda_writers.recording.replaced import find_existing, own_files, remove_file

if TYPE_CHECKING:
    from pathlib import Path


METADATA_SUFFIX = "_metadata.json"
"""Of what is kept beside an array that was saved."""


def check_is_recording(path: Path) -> None:
    """Refuse to replace what is not a recording; nothing, or what is empty, may be replaced.

    Raises
    ------
    FileExistsError
        If there is a file or a folder of somebody else's at `path`.
    """
    beside = path.with_name(path.name + METADATA_SUFFIX)
    if not path.exists() or find_existing(path) != [path] or beside.exists() or _is_empty(path):
        return
    raise FileExistsError(
        f"{path}: exists, and is not a recording of this package, so that overwrite=True does not "
        "replace it. Nothing was changed; move it, or choose another name."
    )


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


def _is_empty(path: Path) -> bool:
    return not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
