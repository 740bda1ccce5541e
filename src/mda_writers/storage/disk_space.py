"""The room on a disk, and what a disk's errors mean."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

from mda_writers.errors import DiskFullError, RecordingError, WriteError

if TYPE_CHECKING:
    from pathlib import Path


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def free_bytes(path: Path) -> int:
    """Return the bytes that may still be written where `path` is, or will be."""
    folder = path
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def human_bytes(count: float) -> str:
    """Return a count of bytes as people write it: ``"1.2 GB"`` (powers of ten)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def as_write_error(error: BaseException, path: Path, said: str, way_out: str = "") -> WriteError:
    """Return any error as one of ours; what it was stays its cause.

    Parameters
    ----------
    error : BaseException
        What was raised; a `WriteError` is returned as it is.
    path : Path
        What could not be written.
    said : str
        What failed, where it was not the system: ``"writing failed"``.
    way_out : str
        What is kept, and what can be done.
    """
    if isinstance(error, WriteError):
        return error
    if isinstance(error, RecordingError):  # a file that is read while writing is damaged
        wrapped = WriteError(str(error))
    elif isinstance(error, OSError):
        wrapped = explained(error, path)
    else:
        wrapped = WriteError(f"{path}: {said} ({type(error).__name__}: {error}). {way_out}".strip())
    wrapped.__cause__ = error
    return wrapped


def explained(error: OSError, path: Path, nbytes: int = 0) -> WriteError:
    """Return the system's error as one of ours: what, where, how much, and the way out."""
    if error.errno not in _NO_ROOM:
        return WriteError(
            f"{path}: could not be written ({error.strerror or error}). Frames written before are "
            "kept; check the disk, its connection and your permissions."
        )
    needed = f", {human_bytes(nbytes)} needed" if nbytes else ""
    limit = " (a file size limit of the process or file system)" * (error.errno == errno.EFBIG)
    return DiskFullError(
        f"{path}: {human_bytes(free_bytes(path))} free{needed}{limit}. Frames written before are "
        "kept; free some space or record to another disk."
    )
