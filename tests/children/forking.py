"""Forks in the middle of a recording: its child ends as programs end, or outlives it."""

from __future__ import annotations

import gc
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mda_writers import WriteError
from stamps import stamp


def main(writer: str, path: str, how: str) -> None:
    module, name = writer.split(":")
    kind = getattr(import_module(module), name)
    made = kind(path, sync_ms=20)
    made.begin(32, 32)
    for t in range(10):
        made.add_frame(stamp({"t": t}, (32, 32), "uint16"))
    made.isel(t=0)
    child = os.fork()
    if not child:
        knows_nothing(made)
        if how == "outlived":
            print("forked", flush=True)
            sys.stdin.read()
        if how == "records":
            made.begin(32, 32)
            made.add_frame(stamp({"t": 0}, (32, 32), "uint16"))
            print(Path(made.finish().path).name, flush=True)
        sys.exit(5)
    if how == "outlived":
        sys.stdin.close()
        signal.pause()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    for t in range(10, 20):
        made.add_frame(stamp({"t": t}, (32, 32), "uint16"))
    assert made.finish().complete


def knows_nothing(made: object) -> None:
    """Check that a writer has no recording in the child, nor ends one when it is let go of."""
    assert (made.frames_received, made.paths, made.position_sizes) == (0, [], [])  # type: ignore[attr-defined]
    try:
        made.finish()  # type: ignore[attr-defined]
    except WriteError as error:
        assert "nothing was begun" in str(error)
    made.position_arrays.clear()  # type: ignore[attr-defined]
    gc.collect()


if __name__ == "__main__":
    main(*sys.argv[1:])
