"""The demo's microscope: Micro-Manager's own simulation, and what is acquired with it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import useq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymmcore_plus import CMMCorePlus

SEQUENCE = useq.MDASequence(
    axis_order="tpcz",
    stage_positions=[
        useq.Position(x=0, y=0, z=0, name="centre"),
        useq.Position(x=200, y=0, z=2, name="right"),
        useq.Position(x=200, y=200, z=4, name="corner"),
    ],
    channels=[
        useq.Channel(config="DAPI", exposure=5),
        useq.Channel(config="FITC", exposure=10),
    ],
    z_plan=useq.ZRangeAround(range=4, step=1),
    time_plan=useq.TIntervalLoops(interval=0, loops=3),
)
"""Three positions, two channels, five planes, three time points: 90 frames of 512 × 512."""


@contextmanager
def demo_core(config: str = "demo.cfg") -> Iterator[CMMCorePlus]:
    """Give a core with the simulated microscope, and let go of it in the end."""
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    try:
        core.loadSystemConfiguration(str(_configuration(config)))
        yield core
    finally:
        core.unloadAllDevices()
        # MMCore tells of events on a thread of its own; if that still has something to say while
        # the interpreter shuts down, the process is aborted after its work was done well
        super(CMMCorePlus, core).registerCallback(None)


def _configuration(name: str) -> Path:
    """Return a configuration file, installed with the package or beside it in a checkout."""
    here = Path(__file__).parent.parent
    installed = here / "mm_configs" / name
    return installed if installed.exists() else here.parent.parent / "mm_configs" / name
