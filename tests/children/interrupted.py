"""Records in direct mode, is slow at the end, and gets Ctrl-C there: once, or as often as asked."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from contracts.doubles import slow
from stamps import stamp


def main(writer: str, path: str, times: str, how: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    module, name = writer.split(":")
    kind = getattr(import_module(module), name)

    class Slow(slow(kind, 0.05)):  # type: ignore[misc]
        def finalize_metadata(self) -> None:
            time.sleep(0.3)
            super().finalize_metadata()

    made = Slow(path)
    made.begin(32, 32)
    for t in range(20):
        made.add_frame(stamp({"t": t}, (32, 32), "uint16"))
    threading.Thread(target=interrupt, args=(int(times),), daemon=True).start()
    try:
        if how == "finish":
            made.finish()
        elif how == "close":
            made.close()
        else:
            with made:
                pass
    except KeyboardInterrupt:
        print("interrupted", made.frames_written, made.error, flush=True)
    else:
        print("not interrupted", flush=True)
    if int(times) == 1:
        print(made.result().complete, flush=True)


def interrupt(times: int) -> None:
    for _ in range(times):
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(*sys.argv[1:])
