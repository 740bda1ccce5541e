"""The names of one session: what the path policy says, made unique before anything is written."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from mda_writers.acquisition.notes import Notes
from mda_writers.acquisition.reserved import ReservedNames, legal

if TYPE_CHECKING:
    from pathlib import Path, PurePath

    from mda_writers.acquisition.naming import PathPolicy, SessionInfo


class SessionNames:
    """Finds a place for every file of a session.

    The session's number (``SessionInfo.run``) is the first whose notes file nobody has made:
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
