"""Begins a recording, and ends the program without ending the recording."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from stamps import stamp


def main(writer: str, path: str, how: str) -> None:
    module, name = writer.split(":")
    made = getattr(import_module(module), name)(path)
    made.begin(32, 32)

    def frames() -> None:
        for t in range(20):
            made.add_frame(stamp({"t": t}, (32, 32), "uint16"))

    if how == "thread":
        threading.Thread(target=frames).start()
        return
    frames()
    if how == "exit":
        sys.exit(3)
    if how == "exception":
        raise RuntimeError("nobody catches this")


if __name__ == "__main__":
    main(*sys.argv[1:])
