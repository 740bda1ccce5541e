"""Records stamped frames until somebody kills it."""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("PYMM_LOG_FILE", "0")

import numpy as np
import psutil  # noqa: F401
import useq
from pymmcore_plus import CMMCorePlus

from conftest import MM_CONFIGS
from engine import StampedEngine
from mda_writers import record
from stamps import stamp

LOOPS = 300
PACE_S = 0.0005  # a frame; so that a second's frames are checked in less than a second
POSITIONS = [useq.Position(x=0, y=0, name="left"), useq.Position(x=9, y=0, name="A/1")]


def run(writer: str, path: Path, mode: str, planned: bool, options: dict[str, Any]) -> None:
    """Record two positions and two channels, in one of the three modes.

    Parameters
    ----------
    writer : str
        ``"module:class"``.
    path : Path
        Where to.
    mode : str
        ``"output"``, ``"connected"`` or ``"direct"``.
    planned : bool
        Whether the recorder knows the number of frames beforehand.
    options : dict
        For the writer.
    """
    module, name = writer.split(":")
    made = getattr(import_module(module), name)(path, **options)
    (_direct if mode == "direct" else _by_runner)(made, mode, planned)


def _direct(writer: Any, mode: str, planned: bool) -> None:
    sizes = {"t": LOOPS, "p": 2, "c": 2}
    writer.begin(32, 32, sizes=sizes if planned else None)
    for number, index in enumerate(np.ndindex(*sizes.values())):
        named = dict(zip(sizes, index, strict=True)) if planned else {"t": number}
        writer.add_frame(stamp(named, (32, 32), "uint16"), metadata={"number": number})
        time.sleep(PACE_S)
    writer.finish()


def _by_runner(writer: Any, mode: str, planned: bool) -> None:
    core = CMMCorePlus.instance()
    core.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
    core.mda.set_engine(StampedEngine(core, on_frame=lambda number: time.sleep(PACE_S)))
    sequence = useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": LOOPS},
        stage_positions=POSITIONS,
        channels=["DAPI", "FITC"],
    )
    events = sequence if planned else list(sequence)
    if mode == "output":
        core.run_mda(events, output=writer, block=True)
        writer.result()
    else:
        record(core, events, writer, progress=False)
