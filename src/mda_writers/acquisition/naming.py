"""Where the files of a session go: a policy that users replace by one of their own."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Protocol

from mda_writers.model.names import fold, safe_name

VALUE_BYTES = 32
"""Bytes kept of a subject, a task or a device: with all of them, a position's name and the
sidecar's suffix, a file name stays under the 255 bytes of common file systems."""


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
