"""Files as a manifest names them: relative to it, and only those that exist."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mda_writers.acquisition.manifest import FileEntry
from mda_writers.storage.hashing import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mda_writers.acquisition.manifest import Manifest, Recording


def entries(files: Iterable[Path], folder: Path, role: str = "") -> list[FileEntry]:
    """Return an entry for each of `files` that exists, with the size of what is a plain file."""
    found = []
    for file in dict.fromkeys(files):
        if file.exists():
            size = None if file.is_dir() else file.stat().st_size
            found.append(FileEntry(path=relative(file, folder), role=role, size_bytes=size))
    return found


def place(path: Path, folder: Path) -> dict[str, str]:
    """Return the name and the folder of a recording, as its entry has them."""
    return {"name": path.name, "folder": relative(path.parent, folder)}


def relative(file: Path, folder: Path) -> str:
    """Return the way from `folder` to `file`, with forward slashes."""
    return os.path.relpath(file, folder).replace(os.sep, "/")


def hash_all(manifest: Manifest, folder: Path) -> None:
    """Fill in the sizes and the hashes of all files of `manifest`; those that are gone leave it.

    A file of a series may be moved away as soon as it is complete.
    """
    owners: list[Manifest | Recording] = [manifest]
    owners += [recording for producer in manifest.producers for recording in producer.recordings]
    for owner in owners:
        owner.files = [entry for entry in owner.files if _hash(entry, folder)]


def _hash(entry: FileEntry, folder: Path) -> bool:
    """Fill in the size and the hash; return whether there is such a file."""
    try:
        entry.size_bytes, entry.xxh3_128 = content_hash(folder / entry.path)
    except FileNotFoundError:
        return False
    return True
