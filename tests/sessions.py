"""Sessions for tests: a camera with a loop of its own, and what the manifest says afterwards."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import orjson
import useq

from mda_writers import Acquisition

NAMES = {"subject": "M1", "session": 1, "task": "rest"}


def loops(n: int) -> useq.MDASequence:
    return useq.MDASequence(time_plan={"interval": 0, "loops": n}, channels=["FITC"])


def film(acq: Acquisition, device: str, frames: int, before: Any = None, **options: Any) -> None:
    """Be a camera with a loop of its own, on a thread of its own."""
    with acq.keeping_errors():
        writer = acq.writer(device, ".ome.tiff", direct=True, **options)
        writer.begin(16, 12, dtype="uint8", camera=device, pixel_size_um=2.0)
        for number in range(frames):
            if before is not None:
                before(number)
            writer.add_frame(np.full((12, 16), number, np.uint8))
            acq.log(f"{device} clock", {"number": number}, device_time=number / 10)
        writer.finish()


def in_thread(*args: Any, **options: Any) -> threading.Thread:
    thread = threading.Thread(target=film, args=args, kwargs=options)
    thread.start()
    return thread


def read(acq: Acquisition) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(acq.manifest_path.read_bytes())
    return found


def producer(manifest: dict[str, Any], device: str) -> dict[str, Any]:
    (found,) = [p for p in manifest["producers"] if p["device"] == device]
    return found


def files_named(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    recordings = [r for p in manifest["producers"] for r in p["recordings"]]
    return [file for r in [*recordings, manifest] for file in r["files"]]
