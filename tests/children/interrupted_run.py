"""Runs an acquisition on the main thread, and gets Ctrl-C in the middle of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import useq
from pymmcore_plus import CMMCorePlus

from conftest import MM_CONFIGS, let_go
from contracts.doubles import slow
from engine import StampedEngine
from mda_writers import BigTiffWriter, record


def main(path: str, way: str, times: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    core = CMMCorePlus()
    core.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
    core.mda.set_engine(StampedEngine(core, on_frame=lambda n: time.sleep(0.02)))
    plan = useq.MDASequence(time_plan={"interval": 0, "loops": 500})
    writer = slow(BigTiffWriter, 0.05)(path)

    def interrupt() -> None:
        while writer.frames_received < 20:
            time.sleep(0.01)
        for _ in range(int(times)):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        if way == "record":
            record(core, plan, writer, progress=False)
        else:
            with writer.connected(core):
                core.mda.run(plan)
    except KeyboardInterrupt:
        print(writer.frames_received, writer.frames_written)
    let_go(core)


if __name__ == "__main__":
    main(*sys.argv[1:])
