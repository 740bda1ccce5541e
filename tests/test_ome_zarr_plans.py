"""Every plan, as OME-Zarr: the frame stored at an index is the frame acquired at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mda_writers import OMEZarrWriter, WriteError, record
from plans import PLANS, REPEATING_PLANS, Plan, engine_for, expected_indices, expected_stamps
from stamps import check_stamp
from zarr_reading import frames_by_sidecar, read_with_tensorstore, read_with_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


def check_plan(plan: Plan, core: CMMCorePlus, path: Path, **options: Any) -> None:
    core.mda.set_engine(engine_for(plan, core))
    writer = OMEZarrWriter(path, **options)
    if plan.name == "no_events":
        with pytest.raises(WriteError, match="The sequence is empty"):
            record(core, plan.events(), [writer], progress=False)
        return
    expected = expected_indices(plan)
    (report,) = record(core, plan.events(), [writer], progress=False)
    assert report.frames_written == len(expected)
    if not expected:
        assert not path.exists()
        return
    for read in (read_with_zarr, read_with_tensorstore):
        found = frames_by_sidecar(path, read)
        assert len(found) == len(expected)
        for (index, pixels), mark, planned in zip(
            found, expected_stamps(plan), expected, strict=True
        ):
            assert {k: v for k, v in index.items() if k != "repeat"} == planned
            check_stamp(pixels, mark)
    assert report.complete is (plan.skip is None), report


@pytest.mark.parametrize("plan", PLANS + REPEATING_PLANS, ids=str)
def test_every_frame_of_a_plan_is_where_its_event_says(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    check_plan(plan, core, tmp_path / "exp.ome.zarr")


OPTIONS: dict[str, dict[str, Any]] = {
    "compressed_with_lz4": {"compression": "blosc-lz4"},
    "compressed_with_zstd_in_tiles": {"compression": "zstd", "chunks": {"y": 10, "x": 16}},
    "tiles_that_stick_out": {"chunks": {"y": 10, "x": 20}},
    "small_shards": {"shards": {"t": 2, "z": 2, "c": 3}},
    "one_frame_a_shard": {"shards": {"t": 1, "z": 1, "c": 1}},
    "pyramid": {"levels": 3},
    "compressed_pyramid": {"levels": 2, "compression": "blosc-zstd"},
    "ngff_04": {"ngff_version": "0.4"},
    "ngff_04_compressed_pyramid": {
        "ngff_version": "0.4",
        "compression": "blosc-zstd",
        "levels": 2,
        "chunks": {"x": 16},
    },
}
SOME_PLANS = [
    plan
    for plan in PLANS + REPEATING_PLANS
    if plan.name
    in (
        "order_czgpt",
        "order_zcpt",
        "do_stack_false",
        "ragged_in_everything",
        "wells_with_a_grid_of_fields",
        "queue_growing_in_odd_order",
        "events_with_large_indices",
        "skipped_by_number",
        "names_in_unicode",
        "cameras_of_other_sizes",
        "two_cameras_on_a_list_of_events",
        "rgb_with_two_cameras",
        "float_64",
        "odd_frame_size",
        "repeating_events_in_a_list",
    )
]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("plan", SOME_PLANS, ids=str)
def test_a_plan_is_the_same_however_it_is_stored(
    plan: Plan, options: dict[str, Any], core: CMMCorePlus, tmp_path: Path
) -> None:
    check_plan(plan, core, tmp_path / "exp.ome.zarr", **options)
