"""Records stamped frames slowly, for somebody who reads them meanwhile."""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("PYMM_LOG_FILE", "0")

from stamps import stamp

SIZES = {"t": 12, "p": 2, "c": 2}
PACE_S = 0.02


def main(writer: str, path: str, planned: str, die_at: str) -> None:
    """Record; kill this process at frame `die_at`, if that is a number from 0 on."""
    module, name = writer.split(":")
    made = getattr(import_module(module), name)(path)
    sizes = SIZES if planned == "planned" else None
    made.begin(
        64, 48, False, dtype="uint16", sizes=sizes, channels=["DAPI", "FITC"], pixel_size_um=0.5
    )
    number = 0
    for t in range(SIZES["t"]):
        for p in range(SIZES["p"]):
            for c in range(SIZES["c"]):
                if number == int(die_at):
                    time.sleep(0.3)  # what was handed over gets to the disk
                    os.kill(os.getpid(), 9)
                index = {"t": t, "p": p, "c": c}
                made.add_frame(stamp(index, (48, 64), "uint16"), index=index)
                time.sleep(PACE_S)
                number += 1
    made.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
