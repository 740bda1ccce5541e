"""Names that are taken: the next free one, and recordings that give way to new ones."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import orjson

from mda_writers.errors import CorruptRecordingError, WriteError
from mda_writers.model.names import split_suffix, with_stem_suffix
from mda_writers.recording.files import (
    StoredRecording,
    journal_path,
    lock_journal,
    owner_of,
    recording_path,
    sidecar_path,
)
from mda_writers.recording.journal import Journal
from mda_writers.storage.disk_space import explained
from mda_writers.storage.files import FileLock, replace_bytes
from mda_writers.storage.workers import Background

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


ASIDE = ".replaced"
"""Suffix of the hidden folder in which a recording waits while another one takes its name."""

_logger = logging.getLogger("mda_writers")

METADATA_SUFFIX = "_metadata.json"
"""Of what is kept beside an array that was saved."""


def find_existing(path: Path) -> list[Path]:
    """Return the files of a recording at `path` that exist; empty if the name is free."""
    files = [path, *_descriptions(path), _aside(path)]
    return [file for file in files if file.exists() or file.is_symlink()]


def check_own(path: Path) -> None:
    """Refuse to replace what is at `path` if it is not a recording of that name.

    Raises
    ------
    WriteError
        If it belongs to another recording, or to none.
    """
    if not find_existing(path) or _is_recording(path):
        return
    owner = owner_of(path)
    if owner is not None:
        raise WriteError(
            f"{path}: belongs to another recording, {owner.name}, and was not touched. Overwrite "
            "that one, or choose another name."
        )
    raise WriteError(
        f"{path}: exists, and belongs to another recording or to none: what describes one of ours "
        f"({journal_path(path).name} or {recording_path(path).name}) is not beside it. It was not "
        "touched; remove it yourself, or choose another name."
    )


class Replaced:
    """A recording that waits in a hidden folder beside until the new one of its name is there.

    Files are only ever renamed, so that a process that is killed at any moment leaves either the
    old recording or the new one to be put right: see `settle`.

    Parameters
    ----------
    path : Path
        The main path of both.

    Raises
    ------
    WriteError
        If the recording at `path` is still being written, or what is there is none of ours. It
        is then as it was.
    """

    def __init__(self, path: Path) -> None:
        settle(path)
        check_own(path)
        self.path = path
        self.folder = _aside(path)
        self.is_removed = False
        self._background = Background("mda-writers replaced")
        journal = _lock_journal(path)  # before anything is touched
        try:
            files = own_files(path)
            self._lock = _reserve(path)
            self._move(files)
        except OSError as error:
            raise explained(error, path) from error
        finally:
            if journal is not None:
                journal.release()

    @classmethod
    def if_any(cls, path: Path) -> Replaced | None:
        """Set the recording at `path` aside; None if there is none."""
        settle(path)
        return cls(path) if find_existing(path) else None

    def let_go(self) -> None:
        """Remove the old recording, behind the calling thread: the new one has a frame."""
        if not self.is_removed:
            self.is_removed = True
            self._background.put(self.remove)

    def close(self) -> None:
        """Wait for the removal, if it has begun."""
        self._background.close()

    def remove(self) -> None:
        """Remove the old recording for good; a file that cannot be removed now stays hidden."""
        try:
            _sync(self.path)  # a power cut leaves one of the two
            self._release()
            shutil.rmtree(self.folder)
        except (OSError, CorruptRecordingError) as error:
            self._release()
            _logger.warning(
                "%s: the recording that was replaced could not be removed (%s). Remove the "
                "folder when the new recording is safe, and nobody has the old one open.",
                self.folder,
                error,
            )

    def restore(self) -> None:
        """Put the old recording back in its place."""
        self._release()
        _undo(self.path)

    def _move(self, files: Iterable[Path]) -> None:
        try:
            for file in files:
                file.rename(self.folder / file.name)
        except BaseException:
            self.restore()
            raise

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def settle(path: Path) -> None:
    """Complete, or undo, a replacement at `path` that was killed: one recording is left.

    The new one if it has a frame, else the old one.

    Raises
    ------
    WriteError
        If the process that replaces it lives.
    """
    folder = _aside(path)
    if not folder.is_dir():
        return
    try:
        FileLock(folder / _LOCK).release()
    except BlockingIOError as error:
        raise _just_replaced(path) from error
    except OSError:
        pass  # a file system without locks, or killed before there was one
    if _is_replaced(path):
        shutil.rmtree(folder)
    else:
        _undo(path)


def settle_all(path: Path) -> None:
    """Complete or undo the replacement that `path` may be a file of; see `settle`."""
    for folder in path.parent.glob(f".*{ASIDE}"):
        main = path.with_name(folder.name[1:].removesuffix(ASIDE))
        stem, suffix = split_suffix(main.name)
        is_image = path.name.startswith(f"{stem}_") and path.name.endswith(suffix)
        if path.name.startswith(main.name) or is_image:
            settle(main)


_LOCK = "lock"


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}{ASIDE}")


def _descriptions(path: Path) -> list[Path]:
    return [recording_path(path), sidecar_path(path), journal_path(path)]


def _is_recording(path: Path) -> bool:
    return any(file.exists() for file in _descriptions(path))


def own_files(path: Path) -> list[Path]:
    """Return the files of the recording at `path` that exist: what describes it, then the images.

    Names that a description has for files of others stop all: see `OwnNames`.
    """
    files = _descriptions(path)
    try:
        stored = StoredRecording.at(path)
        names = [file for image in stored.images.values() for file in image.all_files]
        if "projections" in stored.header:
            names.append(stored.names.now(stored.header["projections"]))
        files += [path.parent / name.split("/")[0] for name in names]
    except (FileNotFoundError, CorruptRecordingError):
        files.append(path)  # what else is its own, nobody knows any more
    return [file for file in dict.fromkeys(files) if file.exists() or file.is_symlink()]


def _lock_journal(path: Path) -> FileLock | None:
    """Return a lock on the journal of the recording at `path`, if there is one.

    Raises
    ------
    WriteError
        If the recording is still being written.
    """
    lock = lock_journal(path) if journal_path(path).exists() else None
    if lock is not None and sys.platform == "win32":
        lock.release()  # no file that is open is renamed there
        return None
    return lock


def _reserve(path: Path) -> FileLock | None:
    """Make the folder for a recording that gives way, and hold its lock; None without locks.

    Raises
    ------
    WriteError
        If another process does the same.
    """
    try:
        _aside(path).mkdir()
        replace_bytes(_aside(path) / _LOCK, orjson.dumps({"set_id": _set_id(path)}))
        return FileLock(_aside(path) / _LOCK)
    except (FileExistsError, BlockingIOError) as error:
        raise _just_replaced(path) from error
    except OSError:
        if not (_aside(path) / _LOCK).exists():
            raise
        return None


def _just_replaced(path: Path) -> WriteError:
    return WriteError(
        f"{path}: is just being replaced by another recording. Nothing was changed; end that one "
        "first, or choose another name."
    )


def _set_id(path: Path) -> str:
    """Return the set id of the recording at `path`; "" of one that does not know it any more."""
    try:
        return str(StoredRecording.at(path).header.get("set_id", ""))
    except (CorruptRecordingError, FileNotFoundError):
        return ""


def _is_replaced(path: Path) -> bool:
    """Return whether the recording at `path` is the new one, and has a frame."""
    if _set_id(path) in ("", _set_id_before(path)):
        return False
    if recording_path(path).exists():
        return True
    frames = Journal.read(journal_path(path)).frames()
    return any(frame["mda_writers"].get("saved", True) for _, frame in frames)


def _undo(path: Path) -> None:
    """Put what was set aside back, in the place of what there is of the new recording."""
    folder = _aside(path)
    before = [file for file in folder.iterdir() if file.name != _LOCK]
    if _set_id(path) not in ("", _set_id_before(path)):
        for file in own_files(path):
            remove_file(file)
    # what describes it last: until then nobody takes a part for the whole
    described = set(_descriptions(folder / path.name))
    if before and _is_torn(journal_path(path)):
        journal_path(path).unlink()
    for file in sorted(before, key=lambda file: file in described):
        target = path.with_name(file.name)
        remove_file(target)
        file.rename(target)
    shutil.rmtree(folder)


def _set_id_before(path: Path) -> str:
    """Return the set id of the recording that was set aside; "" where it knows none."""
    try:
        return str(orjson.loads((_aside(path) / _LOCK).read_bytes())["set_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _sync(path: Path) -> None:
    """Return when what is written of the recording at `path` would survive a power cut."""
    for file in own_files(path):
        for each in file.rglob("*") if file.is_dir() else [file]:
            # what is gone by now was half-made, and has its name in another place
            with suppress(FileNotFoundError):
                if each.is_file():
                    with each.open("rb+") as stream:
                        os.fsync(stream.fileno())


def _is_torn(journal: Path) -> bool:
    """Return whether a journal has not even a first line: its process was killed at once."""
    try:
        with journal.open("rb") as stream:
            return not stream.readline().endswith(b"\n")
    except FileNotFoundError:
        return False


def remove_file(file: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


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
