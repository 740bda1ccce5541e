"""Makes sure that what a contestant calls written is on the disk."""

from __future__ import annotations

import os
from pathlib import Path


def sync_tree(path: Path) -> None:
    """Return once every file at or below `path`, and every folder's list of files, is durable."""
    if path.is_dir():
        for child in sorted(path.iterdir()):
            sync_tree(child)
    _sync(path)


def size_of_tree(path: Path) -> int:
    """Return the bytes of all files at or below `path`."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder, and needs not to
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
