"""Names on disk: what belongs to a recording, and which name is still free."""

from __future__ import annotations

import shutil
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import orjson

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.names import with_stem_suffix
from mda_writers.sinks.journal import Journal
from mda_writers.sinks.sidecar import journal_path, recording_path, sidecar_path

if TYPE_CHECKING:
    from pathlib import Path


def find_existing(path: Path) -> list[Path]:
    """Return the files of a recording at `path` that exist; empty if the name is free."""
    files = [path, sidecar_path(path), recording_path(path), journal_path(path)]
    return [file for file in files if file.exists() or file.is_symlink()]


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
    files = set(find_existing(path)) | {path.parent / name for name in _image_files(path)}
    for file in files:
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


def _image_files(path: Path) -> set[str]:
    """Return the names of the image files that a recording says are its own."""
    names: set[str] = set()
    if journal_path(path).exists():
        with suppress(CorruptRecordingError):
            journal = Journal.read(journal_path(path))
            names |= {image.file for image in journal.images.values()}
            names |= {frame["mda_writers"].get("file", "") for _, frame in journal.frames()}
            names.add(journal.header.get("projections", ""))
    if recording_path(path).exists():
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            content = orjson.loads(recording_path(path).read_bytes())
            for image in content["layout"]["images"]:
                names |= {image["file"], *image.get("files", ())}
            names.add(content.get("projections", ""))
    # only plain names: a file that was tampered with must not reach into other folders
    return {name for name in names if name and "/" not in name and "\\" not in name}
