"""The hash of what a file or a folder holds, in little memory whatever its size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES = 4 << 20
"""Bytes in memory while a file is read."""


def content_hash(path: Path) -> tuple[int, str]:
    r"""Return the size in bytes and the hash (xxh3, 128 bits, in hexadecimal).

    A folder's size is that of its files, and its hash that of one line a file, in the order of
    their names: ``<relative path>\0<size>\0<hash>\n``.
    """
    if not path.is_dir():
        return _file_hash(path)
    whole, total = xxhash.xxh3_128(), 0
    for file in files_in(path):
        size, digest = _file_hash(file)
        name = file.relative_to(path).as_posix()
        whole.update(f"{name}\0{size}\0{digest}\n".encode(errors="surrogateescape"))
        total += size
    return total, whole.hexdigest()


def files_in(folder: Path) -> Iterator[Path]:
    """Return all files under `folder`, in the order of their names, a folder at a time."""
    with os.scandir(folder) as entries:
        in_order = sorted(entries, key=lambda entry: entry.name)
    for entry in in_order:
        if entry.is_dir(follow_symlinks=False):
            yield from files_in(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _file_hash(path: Path) -> tuple[int, str]:
    whole, size = xxhash.xxh3_128(), 0
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            whole.update(memoryview(buffer)[:count])
            size += count
    return size, whole.hexdigest()
