"""What a folder holds: a session with its manifest, or simply recordings."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mda_writers.acquisition.stored import StoredAcquisition, find_manifest, manifests_in
from mda_writers.errors import CorruptRecordingError
from mda_writers.recording.stored import main_path
from mda_writers.sinks.journal import JOURNAL_SUFFIX
from mda_writers.sinks.sidecar import RECORDING_SUFFIX

MOST_RECORDINGS = 200
"""Recordings on one page; a page about more says so."""


@dataclass(frozen=True, slots=True)
class Session:
    """The recordings below a folder.

    Attributes
    ----------
    folder : Path
        The folder.
    stored : StoredAcquisition or None
        The session, if the folder has a manifest of one.
    recordings : list of Path
        Main paths, in the order of the manifest, then by name.
    devices : dict
        Main path → the device that the manifest names for it.
    lost : list of (str, str)
        Device and file of recordings that the manifest names and that are not there.
    problems : list of str
        Why there is less to tell than one would wish.
    """

    folder: Path
    stored: StoredAcquisition | None
    recordings: list[Path]
    devices: dict[Path, str] = field(default_factory=dict)
    lost: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    damaged: bool = False


def open_session(path: Path) -> Session:
    """Return what there is in a folder, or beside a manifest.

    Raises
    ------
    FileNotFoundError
        If there is neither a manifest nor a recording.
    CorruptRecordingError
        If `path` is a file, and no manifest.
    """
    problems: list[str] = []
    if not path.is_dir() and path.suffix != ".json":
        raise _nothing_at(path)
    folder = (path if path.is_dir() else path.parent).absolute()
    stored = _stored(path, problems)
    session = Session(folder, stored, [], problems=problems, damaged=bool(problems))
    if stored is not None:
        _take_devices(stored, session)
    others = _of_other_sessions(stored) if stored is not None else set()
    below = (path for path in _recordings_below(folder) if path not in others)
    found = list(dict.fromkeys([*session.devices, *below]))
    if stored is None and not found:
        raise _nothing_at(path)
    session.recordings.extend(found[:MOST_RECORDINGS])
    if len(found) > MOST_RECORDINGS:
        session.problems.append(
            f"The folder holds {len(found):,} recordings; this page is about the first "
            f"{MOST_RECORDINGS}."
        )
    return session


def _nothing_at(path: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f"{path}: no recording of mda-writers, and no folder that holds one or a session's "
        "manifest. Give the recording's name as it was given to its writer."
    )


def _stored(path: Path, problems: list[str]) -> StoredAcquisition | None:
    try:
        return StoredAcquisition(find_manifest(path))
    except FileNotFoundError:
        return None
    except (ValueError, CorruptRecordingError) as error:
        if not path.is_dir():
            raise
        problems.append(f"{error} This page is about every recording in the folder.")
        return None


def _take_devices(stored: StoredAcquisition, session: Session) -> None:
    for producer in stored.manifest.producers:
        for recording in producer.recordings if producer.kind == "frames" else ():
            main = stored.path_of(recording)
            if _is_there(main):
                session.devices[main] = producer.device
            elif recording.files:
                session.lost.append((producer.device, recording.files[0].path))


def _is_there(main: Path) -> bool:
    try:
        return main_path(main) == main
    except FileNotFoundError:
        return False


def _of_other_sessions(stored: StoredAcquisition) -> set[Path]:
    """Return the recordings that the manifests of other sessions in the same folder name."""
    found: set[Path] = set()
    for file in manifests_in(stored.folder):
        if file == stored.path:
            continue
        with suppress(OSError, CorruptRecordingError):
            other = StoredAcquisition(file)
            found.update(other.path_of(r) for p in other.manifest.producers for r in p.recordings)
    return found


def _recordings_below(folder: Path) -> list[Path]:
    found: set[Path] = set()
    for here, folders, files in os.walk(folder):
        # a store has a folder for each of a million chunks, and no recording in it
        folders[:] = [each for each in folders if not each.endswith(".zarr")]
        for suffix in (RECORDING_SUFFIX, JOURNAL_SUFFIX):
            names = (file.removesuffix(suffix) for file in files if file.endswith(suffix))
            found.update(Path(here) / name for name in names)
    return sorted(found)
