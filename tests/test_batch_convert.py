"""Recordings are converted without losing a pixel, a name or a word of metadata."""

from __future__ import annotations

import errno
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import tifffile

from batch_recordings import recorded
from mda_writers import BigTiffWriter, OMEZarrWriter, convert, open_dataset, record, verify
from mda_writers.batch import BatchError
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


def test_frames_that_were_not_kept_stay_told(core: CMMCorePlus, tmp_path: Path) -> None:
    plan = next(plan for plan in PLANS if plan.name == "12_bit")
    core.mda.set_engine(engine_for(plan, core))
    count = len(expected_stamps(plan))
    flags = [n % 2 == 0 for n in range(count)]
    first, last = tmp_path / "a.ome.tiff", tmp_path / "b.ome.zarr"
    record(core, plan.events(), BigTiffWriter(first, save_frame=flags), progress=False)
    convert(first, last, progress=False)
    assert without_places(sidecar(last)) == without_places(sidecar(first))
    for name in ("complete", "not_saved", "frames_received", "frames_written"):
        assert told(last)["report"][name] == told(first)["report"][name]
    assert told(last)["report"]["not_saved"] == count - sum(flags)


@pytest.mark.parametrize("sizes", [None, {"t": 5}])
def test_an_interrupted_recording_is_converted_and_stays_incomplete(
    sizes: dict[str, int] | None, tmp_path: Path
) -> None:
    first, last = tmp_path / "a.ome.tiff", tmp_path / "b.ome.zarr"
    code = (
        "import os, numpy as np, mda_writers\n"
        f"writer = mda_writers.BigTiffWriter('a.ome.tiff')\n"
        f"writer.begin(32, 32, dtype='uint8', sizes={sizes})\n"
        "for n in range(3): writer.add_frame(np.full((32, 32), n, 'uint8'), metadata={'n': n})\n"
        "writer._run.settle()\n"
        "import time; time.sleep(0.5)\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    summary = convert(first, last, progress=False)
    assert summary.results[0].reason
    with open_dataset(last) as dataset:
        assert not dataset.complete
        assert [int(dataset.read_image(t=t)[0, 0]) for t in range(3)] == [0, 1, 2]
        assert [dataset.read_metadata(t=t)["n"] for t in range(3)] == [0, 1, 2]


def test_what_was_told_at_the_end_comes_along(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    writer.begin(16, 16, dtype="uint8", sizes={"t": 1}, metadata={"mouse": 7})
    writer.add_frame(np.zeros((16, 16), "uint8"), timestamp_s=12.5)
    writer.finish({"verdict": "fine"})
    convert(tmp_path / "a.ome.tiff", tmp_path / "b.ome.zarr", progress=False)
    after = told(tmp_path / "b.ome.zarr")
    assert after["extra_metadata"] == {"verdict": "fine"}
    assert after["summary_metadata"] == {"mouse": 7}
    with open_dataset(tmp_path / "b.ome.zarr") as dataset:
        assert dataset.read_metadata(t=0)["timestamp_s"] == 12.5


def test_a_lossless_video_and_back_gives_the_same_pixels(tmp_path: Path) -> None:
    first = recorded(tmp_path / "a.ome.tiff", frames=6)
    convert(first, tmp_path / "v.mkv", fourcc="FFV1", progress=False)
    convert(tmp_path / "v.mkv", tmp_path / "b.ome.tiff", progress=False)
    for t in range(6):
        for c, name in enumerate(("DAPI", "FITC")):
            with open_dataset(tmp_path / "b.ome.tiff") as dataset:
                check_stamp(dataset.read_image(t=t, c=name), {"t": t, "c": c})
    assert without_places(sidecar(tmp_path / "b.ome.tiff")) == without_places(sidecar(first))


def test_a_conversion_that_fails_does_not_cancel_what_the_microscope_does(
    core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[int] = []
    monkeypatch.setattr("pymmcore_plus.core._mmcore_plus._instance", weakref.ref(core))
    monkeypatch.setattr(core.mda, "cancel", lambda: cancelled.append(1))
    monkeypatch.setattr(OMEZarrWriter, "write_frame", _no_room)
    first = recorded(tmp_path / "a.ome.tiff")
    with pytest.raises(BatchError, match=r"the disk is full .* Nothing of it was kept"):
        convert(first, tmp_path / "b.ome.zarr", progress=False)
    assert not cancelled
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("a.")]


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
