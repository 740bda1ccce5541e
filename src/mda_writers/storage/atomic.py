"""Files that are whole at every moment: written beside, then put in place."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from mda_writers.storage.file_system import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path, *, safely: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when the block ends well.

    When the block raises, `path` stays as it was.

    Parameters
    ----------
    path : Path
        The file; need not exist.
    safely : bool
        Whether the new content is on the disk before it gets its name, so that even a power cut
        leaves the old file or the new one; on return, the new one.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stream:
            yield stream
            if safely:
                stream.flush()
                os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is raised
            beside.unlink(missing_ok=True)
        raise
    if safely:
        sync_folder(path.parent)


def replace_bytes(path: Path, content: bytes) -> None:
    """Make `content` the content of `path`, all or nothing."""
    with replacing(path) as stream:
        stream.write(content)
