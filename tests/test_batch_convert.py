"""Recordings are converted without losing a pixel, a name or a word of metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tifffile

from mda_writers import BigTiffWriter, convert, record, verify
from plans import PLANS, REPEATING_PLANS, Plan, engine_for, expected_stamps
from stamps import check_stamp

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


def sidecar(path: Path) -> dict[str, list[dict[str, Any]]]:
    return orjson.loads(path.with_name(path.name + "_frame_metadata.json").read_bytes())


def told(path: Path) -> dict[str, Any]:
    return orjson.loads(path.with_name(path.name + "_recording.json").read_bytes())


def without_places(frames: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Leave out what depends on the file: everything else must be the same afterwards."""
    kept = ("number", "index", "place", "saved", "unix_time_s", "monotonic_s", "xxh3_64")
    return {
        key: [
            {**frame, "mda_writers": {k: v for k, v in frame["mda_writers"].items() if k in kept}}
            for frame in some
        ]
        for key, some in frames.items()
    }


# every kind of plan that is stored in a way of its own
KINDS = {
    "ragged_in_everything", "wells_with_a_grid_of_fields", "many_positions", "list_of_events",
    "queue_growing_in_odd_order", "queue_with_axes_that_come_later", "events_without_index",
    "events_with_custom_axes", "single_frame", "skipped_by_number", "skipped_position",
    "skipped_with_two_cameras", "names_with_slashes", "names_twice", "names_reserved",
    "two_cameras_on_ragged_positions", "two_cameras_on_a_list_of_events", "three_cameras",
    "cameras_of_three_sizes", "rgb_16_bit", "rgb_with_two_cameras", "12_bit", "signed_16_bit",
    "float_64", "odd_frame_size", "repeating_time_under_time", "repeating_events_in_a_list",
}  # fmt: skip
CHOSEN = [plan for plan in PLANS + REPEATING_PLANS if plan.name in KINDS]


def test_the_chosen_plans_exist() -> None:
    assert {plan.name for plan in CHOSEN} == KINDS


@pytest.mark.parametrize("plan", CHOSEN, ids=str)
def test_tiff_to_zarr_to_tiff_gives_back_every_pixel_and_every_word(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    stamps = expected_stamps(plan)
    core.mda.set_engine(engine_for(plan, core))
    first, zarr, last = (
        tmp_path / "a" / "exp.ome.tiff",
        tmp_path / "b" / "exp.ome.zarr",
        tmp_path / "c" / "exp.ome.tiff",
    )
    record(core, plan.events(), BigTiffWriter(first), progress=False)
    convert(first, zarr, progress=False)
    convert(zarr, last, progress=False)
    assert without_places(sidecar(zarr)) == without_places(sidecar(first))
    assert without_places(sidecar(last)) == without_places(sidecar(first))
    frames = {
        f["mda_writers"]["number"]: f["mda_writers"] for s in sidecar(last).values() for f in s
    }
    assert len(frames) == len(stamps)
    for number, expected in enumerate(stamps):
        with tifffile.TiffFile(last.parent / frames[number]["file"]) as tif:
            check_stamp(tif.pages[frames[number]["ifd"]].asarray(), expected)
    assert verify(last).ok is verify(first).ok
    same = ("complete", "frames_expected", "frames_written", "skipped", "missing", "canceled")
    before, after = told(first), told(last)
    assert {k: after["report"][k] for k in same} == {k: before["report"][k] for k in same}
    assert after["layout"] == before["layout"]
    assert after["sequence"] == before["sequence"]
    assert after["summary_metadata"] == before["summary_metadata"]
    for path in after["report"]["paths"]:
        assert Path(path).exists()
    assert {p.name for p in last.parent.iterdir()} == {
        *(p.name for p in first.parent.iterdir()),
        "exp.ome.tiff.process.json",
    }
