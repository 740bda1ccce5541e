"""Names that are taken: each is handed out once, before anything is written."""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mda_writers.model.names import fold, safe_name, split_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_STEM_BYTES = 180
"""Longest name of a recording, without its suffix; what is written beside it has to fit, too."""


class ReservedNames:
    """Hands out paths under one root, none twice, and none that exists.

    Parameters
    ----------
    root : Path
        The folder that all of them lie in.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._taken: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def reserve(self, wanted: PurePath, suffix: str) -> Path:
        """Return `wanted`, legal on every system and numbered if it is taken.

        A recording writes further files that begin with its own name (``name_<position>``,
        ``name_1``, ``name.ome.tiff_frames.jsonl``), so a name that begins with another one and an
        underscore is as good as taken. The number goes before the whole suffix.

        Raises
        ------
        ValueError
            If the path is not under the root, does not end with `suffix`, or is too long.
        """
        relative = legal(wanted, suffix)
        folder = self._root / relative.parent
        with self._lock:
            taken = self._taken.setdefault(fold(relative.parent.as_posix()), [])
            others = [*taken, *_existing(folder)]
            stem = relative.name[: len(relative.name) - len(suffix)]
            names = (f"{numbered}{suffix}" for numbered in _numbered(stem, len(others)))
            name = next(name for name in names if not _clashes(fold(name), others))
            taken.append(fold(name))
        return folder / name


def legal(wanted: PurePath, suffix: str) -> PurePath:
    """Return `wanted` with parts that every file system accepts."""
    wanted = PurePath(wanted)
    if wanted.is_absolute() or wanted.drive or ".." in wanted.parts or not wanted.name:
        raise ValueError(
            f"{wanted}: the paths of a session are relative to its root and stay under it. "
            "Return such a path from your path policy."
        )
    if not wanted.name.endswith(suffix):
        raise ValueError(f"{wanted}: the path policy must keep the suffix {suffix}.")
    stem = wanted.name[: len(wanted.name) - len(suffix)]
    length = len(stem.encode(errors="replace"))
    if length > MAX_STEM_BYTES:
        raise ValueError(
            f"{wanted}: {length} bytes are too long for a name, at most "
            f"{MAX_STEM_BYTES} leave room for what is written beside it. Shorten it in your path "
            "policy."
        )
    *folders, name = (
        safe_name(part, MAX_STEM_BYTES, MAX_STEM_BYTES) for part in (*wanted.parts[:-1], stem)
    )
    return PurePath(*folders, name + suffix)


def _numbered(stem: str, others: int) -> Iterator[str]:
    """Return names to try, of which `others` other names cannot take all."""
    yield stem
    yield from (f"{stem}-{number}" for number in range(2, others + 3))
    # its beginning is another one's name
    yield from (f"{number}-{stem}" for number in count(2))


def _existing(folder: Path) -> list[str]:
    return [fold(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []


def _clashes(name: str, others: list[str]) -> bool:
    """Whether `name` is, or might become, the file of another one; all are folded."""
    return any(_clash(name, other) for other in others)


def _clash(one: str, other: str) -> bool:
    if one == other or one.startswith(f"{other}_") or other.startswith(f"{one}_"):
        return True
    (stem, suffix), (other_stem, other_suffix) = split_suffix(one), split_suffix(other)
    return suffix == other_suffix and (
        stem.startswith(f"{other_stem}_") or other_stem.startswith(f"{stem}_")
    )
