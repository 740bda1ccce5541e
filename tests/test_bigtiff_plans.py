"""Every plan, as BigTIFF: the frame stored at an index is the frame acquired at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
import tifffile

from mda_writers import BigTiffWriter, WriteError, record
from plans import PLANS, REPEATING_PLANS, Plan, engine_for, expected_indices, expected_stamps
from stamps import check_stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


def frames_by_sidecar(path: Path) -> list[tuple[dict[str, int], np.ndarray]]:
    """Return (index, pixels) of every frame that the sidecar names, read by tifffile."""
    sidecar = orjson.loads(path.with_name(path.name + "_frame_metadata.json").read_bytes())
    found = []
    for frames in sidecar.values():
        for frame in frames:
            ours = frame["mda_writers"]
            with tifffile.TiffFile(path.parent / ours["file"]) as tif:
                found.append((ours["number"], ours["index"], tif.pages[ours["ifd"]].asarray()))
    return [(index, pixels) for _, index, pixels in sorted(found, key=lambda f: f[0])]


@pytest.mark.parametrize("plan", PLANS + REPEATING_PLANS, ids=str)
def test_every_frame_of_a_plan_is_where_its_event_says(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    writer = BigTiffWriter(tmp_path / "exp.ome.tif")
    if plan.name == "no_events":
        with pytest.raises(WriteError, match="The sequence is empty"):
            record(core, plan.events(), [writer], progress=False)
        return
    expected = expected_indices(plan)
    (report,) = record(core, plan.events(), [writer], progress=False)
    assert report.frames_written == len(expected)
    if not expected:
        assert not (tmp_path / "exp.ome.tif").exists()
        return
    found = frames_by_sidecar(tmp_path / "exp.ome.tif")
    assert len(found) == len(expected)
    for (index, pixels), stamp, planned in zip(found, expected_stamps(plan), expected, strict=True):
        assert {k: v for k, v in index.items() if k != "repeat"} == planned
        check_stamp(pixels, stamp)
    assert report.complete is (plan.skip is None), report
