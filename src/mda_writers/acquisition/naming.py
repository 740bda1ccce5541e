"""Names in a session's folder: from templates, safe, and taken only once."""

from __future__ import annotations

import threading
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol

from mda_writers.acquisition.logs import Notes
from mda_writers.model.names import fold, safe_name, split_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator


VALUE_BYTES = 32
"""Bytes kept of a subject, a task or a device: with all of them, a position's name and the
sidecar's suffix, a file name stays under the 255 bytes of common file systems."""

MAX_STEM_BYTES = 180
"""Longest name of a recording, without its suffix; what is written beside it has to fit, too."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a session is called.

    Attributes
    ----------
    subject, session, task : str
        As the user gave them.
    started : datetime
        When it began, in local time.
    run : int
        1, or more where the folder holds sessions of the same name already.
    """

    subject: str
    session: str
    task: str
    started: datetime
    run: int = 1

    @classmethod
    def begun_now(cls, subject: str | int, session: str | int, task: str | int) -> SessionInfo:
        """Return what a session that begins is called.

        Raises
        ------
        ValueError
            If a name is empty.
        """
        for name, value in (("subject", subject), ("session", session), ("task", task)):
            if not str(value).strip():
                raise ValueError(f"Acquisition: {name} is empty; give it a name.")
        return cls(str(subject), str(session), str(task), started=datetime.now())


class PathPolicy(Protocol):
    """Decides where a file goes. A function of this form will do."""

    def __call__(self, info: SessionInfo, name: str, suffix: str, data_type: str) -> PurePath:
        """Return a path relative to the root.

        It need not be unique, nor legal on every system: it is made so afterwards.

        Parameters
        ----------
        info : SessionInfo
            What the session is called.
        name : str
            The device, or for the session's own files ``manifest``, ``notes``, ``timestamps``, ….
        suffix : str
            ``.ome.tiff``, ``.csv``, …; the path must end with it.
        data_type : str
            ``func``, ``beh``, …; empty for the session's own files.
        """


class BidsPaths:
    """The default policy, in the manner of BIDS.

    ``data/sub-<S>/ses-<NN>/<type>/<YYYYmmdd_HHMMSS>_sub-<S>_ses-<NN>_task-<T>_<device>.<ext>``, and
    the session's own files (``manifest.json``, …) in ``ses-<NN>``. As in BIDS an underscore
    parts one entity from the next, so within a value it becomes a hyphen. The second session of the
    same name has ``_run-02`` before the device, and ``manifest-2.json``.
    """

    def __call__(self, info: SessionInfo, name: str, suffix: str, data_type: str) -> PurePath:
        """Return the path of a file; see `PathPolicy`."""
        subject, session = f"sub-{_value(info.subject)}", f"ses-{_number(info.session)}"
        folder = PurePath("data", subject, session)
        if not data_type:
            number = f"-{info.run}" if info.run > 1 else ""
            return folder / f"{_value(name)}{number}{suffix}"
        entities = [f"{info.started:%Y%m%d_%H%M%S}", subject, session, f"task-{_value(info.task)}"]
        if info.run > 1:
            entities.append(f"run-{info.run:02d}")
        return folder / _value(data_type) / f"{'_'.join([*entities, _value(name)])}{suffix}"


def _value(text: str) -> str:
    """Return `text` as a value of an entity: legal behind ``sub-``, and without an underscore."""
    encoded = unicodedata.normalize("NFC", text).strip(" .").encode(errors="ignore")
    # the x: "con" is no name for a file, and a fine one for a subject
    value = safe_name("x" + encoded[:VALUE_BYTES].decode(errors="ignore"))[1:] or "-"
    return "".join("-" if "_" in fold(letter) else letter for letter in value)


def _number(text: str) -> str:
    """Return the name of a session: two digits at least, where it is a number."""
    return text.zfill(2) if text.isascii() and text.isdigit() else _value(text)


class SessionNames:
    """Finds a place for every file of a session.

    The session's number (``SessionInfo.run``) is the first whose notes file does not exist:
    making a file is the one thing that of two processes only one can do.

    Parameters
    ----------
    root : Path
        Where everything goes under.
    info : SessionInfo
        What the session is called; its run is found here.
    policy : PathPolicy
        Where files go.
    """

    def __init__(self, root: Path, info: SessionInfo, policy: PathPolicy) -> None:
        self.root = root
        self.info = info
        self._policy = policy
        self._reserved = ReservedNames(root)
        self.notes = self._claim()

    def path(self, name: str, suffix: str, data_type: str = "") -> Path:
        """Return a path that nothing has, with its folder made."""
        wanted = self._wanted(name, suffix, data_type)
        path = self._reserved.reserve(wanted, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _claim(self) -> Notes:
        tried: set[PurePath] = set()
        for run in count(1):
            self.info = replace(self.info, run=run)
            wanted = self._wanted("notes", ".csv", "")
            # a policy may leave the number out; then the name is numbered for it
            path = self.root / wanted
            if wanted in tried:
                path = self._reserved.reserve(wanted, ".csv")
            tried.add(wanted)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return Notes(path)
            except FileExistsError:
                continue
        raise AssertionError

    def _wanted(self, name: str, suffix: str, data_type: str) -> PurePath:
        wanted = legal(self._policy(self.info, name, suffix, data_type), suffix)
        folder = legal(self._policy(self.info, "manifest", ".json", ""), ".json").parent
        if not wanted.is_relative_to(folder):
            raise ValueError(
                f"{wanted}: the files of a session lie in the folder of its manifest, {folder}, or "
                "below, so that they stay together. Return such a path from your path policy."
            )
        return wanted


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
        underscore is as good as taken. The number goes before the complete suffix.

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
