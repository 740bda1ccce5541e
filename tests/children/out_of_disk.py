"""Records until the system refuses to let a file grow."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mda_writers import WriteError
from stamps import stamp

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

LIMIT_BYTES = 1 << 20


def run(writer: str, path: Path, planned: bool, result: Connection) -> None:
    """Send the name of the error that ended the recording, and the number of frames written."""
    import resource  # Windows has none, and must be able to import this

    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
    module, name = writer.split(":")
    made: Any = getattr(import_module(module), name)(path)
    error = ""
    try:
        if planned:
            made.begin(128, 128, is_color=False, dtype="uint16", sizes={"t": 100})
        else:
            made.begin(128, 128)
        for t in range(100):
            made.add_frame(stamp({"t": t}, (128, 128), "uint16"))
        made.finish()
    except WriteError as raised:
        error = type(raised).__name__
    with suppress(WriteError):
        made.close()
    result.send((error, made.frames_written))
