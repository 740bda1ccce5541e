"""Maximum projections made while frames come are what numpy makes of the same frames."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import ome_types
import orjson
import pytest
import tifffile
import useq

from contracts.disk import fill, small_disk
from engine import StampedEngine
from mda_writers import BigTiffWriter, DiskFullError, WriteError, record
from mda_writers.model.options import MaxProjection
from mda_writers.recording import max_projection
from plans import (
    CHANNELS,
    NAMED,
    POSITIONS,
    STACK,
    TIME,
    Plan,
    engine_for,
    expected_stamps,
    plans_named,
    seq,
)
from stamps import stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

PROJECTED = plans_named(
    "order_tpcz",
    "order_zcpt",
    "order_czgpt",
    "acquire_every_third",
    "do_stack_false",
    "ragged_in_everything",
    "list_of_events",
    "queue_growing_in_odd_order",
    "skipped_by_number",
    "skipped_with_two_cameras",
    "names_twice",
    "two_cameras",
    "two_cameras_on_ragged_positions",
    "three_cameras",
    "cameras_of_other_sizes",
    "rgb",
    "rgb_with_two_cameras",
    "signed_16_bit",
    "float_64",
    "odd_frame_size",
)


def frame_of(plan: Plan, index: dict[str, int]) -> np.ndarray:
    shapes = plan.camera_shapes or [plan.frame_shape] * plan.cameras
    return stamp(index, shapes[index.get("cam", 0)], plan.dtype, bit_depth=plan.bit_depth)


def name_of(plan: Plan, index: dict[str, int]) -> str:
    """Return the name of the projection along z that a frame belongs to."""
    own_images = plan.camera_shapes is not None
    rest = {a: i for a, i in index.items() if a not in "tcz" and a != "p"}
    cam = rest.pop("cam", 0)
    channel = index.get("c", 0)
    if own_images:
        rest["cam"] = cam
    else:
        channel = channel * plan.cameras + cam
    others = "".join(f"_{axis.upper()}{i:04d}" for axis, i in sorted(rest.items()))
    return f"P{index.get('p', 0):04d}{others}_CH{channel:02d}_{index.get('t', 0):06d}"


def expected_maxima(plan: Plan) -> dict[str, np.ndarray]:
    stacks = defaultdict(list)
    for index in expected_stamps(plan):
        stacks[name_of(plan, index)].append(frame_of(plan, index))
    return {name: np.max(frames, axis=0) for name, frames in stacks.items()}


def read_all(folder: Path) -> dict[str, np.ndarray]:
    return {
        file.name.removesuffix(".ome.tiff"): tifffile.imread(file)
        for file in folder.glob("*.ome.tiff")
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert sorted(found) == sorted(expected)
    for name, pixels in expected.items():
        assert found[name].dtype == pixels.dtype
        np.testing.assert_array_equal(found[name], pixels, err_msg=name)


@pytest.mark.parametrize("plan", PROJECTED, ids=str)
def test_projections_of_a_plan_are_the_maximum_of_its_frames(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=True)
    (report,) = record(core, plan.events(), [writer], progress=False)
    expected = expected_maxima(plan)
    assert_same(read_all(tmp_path / "exp_projections"), expected)
    assert_same(dict(writer.projections), expected)
    files = {str(file) for file in (tmp_path / "exp_projections").iterdir()}
    assert files <= set(report.paths)
    assert files <= {str(path) for path in writer.paths}


@pytest.mark.parametrize("axes", ["t", "zt", "czt"])
def test_other_axes_can_be_projected(axes: str, core: CMMCorePlus, tmp_path: Path) -> None:
    plan = NAMED["order_tpcz"]
    core.mda.set_engine(engine_for(plan, core))
    record(
        core,
        plan.events(),
        [BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=axes)],
        progress=False,
    )
    found = read_all(tmp_path / "exp_projections")
    stacks = defaultdict(list)
    for index in expected_stamps(plan):
        rest = tuple((a, i) for a, i in sorted(index.items()) if a not in axes)
        stacks[rest].append(frame_of(plan, index))
    if axes == "czt":
        assert sorted(found) == ["P0000", "P0001"]
        for p in (0, 1):
            np.testing.assert_array_equal(found[f"P{p:04d}"], np.max(stacks[(("p", p),)], axis=0))
    if axes == "zt":
        assert sorted(found) == [f"P{p:04d}_CH{c:02d}" for p in (0, 1) for c in (0, 1)]
        wanted = np.max(stacks[(("c", 1), ("p", 1))], axis=0)
        np.testing.assert_array_equal(found["P0001_CH01"], wanted)
    if axes == "t":
        assert len(found) == len(stacks) == 12
        wanted = np.max(stacks[(("c", 1), ("p", 1), ("z", 2))], axis=0)
        np.testing.assert_array_equal(found["P0001_CH01_Z0002"], wanted)


def test_a_stack_that_was_cut_short_has_the_maximum_of_what_was_taken(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    engine = StampedEngine(core, on_frame=lambda n: core.mda.cancel() if n == 4 else None)
    core.mda.set_engine(engine)
    plan = seq(time_plan=TIME, z_plan={"range": 8, "step": 2}, channels=["DAPI"], axis_order="tcz")
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=True)
    (report,) = record(core, plan, [writer], progress=False)
    taken = report.frames_written
    assert report.canceled and 4 < taken < 10
    frames = [stamp(dict(e.index), (32, 32), "uint16") for e in list(plan)[:taken]]
    expected = {"P0000_CH00_000000": np.max(frames[:5], axis=0)}
    if taken > 5:
        expected["P0000_CH00_000001"] = np.max(frames[5:], axis=0)
    assert_same(read_all(tmp_path / "exp_projections"), expected)


def test_projections_are_there_while_the_stack_is_taken(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 9999, (6, 20, 30), np.uint16)
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=True)
    writer.begin(30, 20, sizes={"t": 2, "z": 3})
    for n, frame in enumerate(frames):
        writer.add_frame(frame)
        writer.isel(t=0, z=0)  # returns when all frames so far are written
        now = writer.projections[f"P0000_CH00_{n // 3:06d}"]
        np.testing.assert_array_equal(now, frames[n // 3 * 3 : n + 1].max(axis=0))
        now[:] = 0  # a copy: nothing happens to the projection
        assert len(writer.projections) == n // 3 + 1
    with pytest.raises(KeyError, match="there are P0000_CH00_000000, P0000_CH00_000001"):
        writer.projections["P0009_CH00_000000"]
    writer.finish()
    np.testing.assert_array_equal(writer.projections["P0000_CH00_000001"], frames[3:].max(axis=0))


def test_a_finished_projection_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 9999, (4, 20, 30), np.uint16)
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=True)
    writer.begin(30, 20, sizes={"t": 2, "z": 3})
    for frame in frames:
        writer.add_frame(frame)
    writer.isel(t=0, z=0)
    found = read_all(tmp_path / "exp_projections")
    assert_same(found, {"P0000_CH00_000000": frames[:3].max(axis=0)})
    writer.finish()


def test_projections_beyond_the_memory_wait_in_their_files(
    core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(max_projection, "HELD_BYTES", 3 * 2048)
    plan = NAMED["order_zcpt"]
    core.mda.set_engine(engine_for(plan, core))
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=True)
    record(core, plan.events(), [writer], progress=False)
    assert_same(read_all(tmp_path / "exp_projections"), expected_maxima(plan))


def test_each_file_says_how_large_a_pixel_is_and_which_channel_it_shows(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    plan = seq(stage_positions=POSITIONS, channels=CHANNELS, z_plan=STACK)
    record(
        core,
        plan,
        [BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=True)],
        progress=False,
    )
    ome = ome_types.from_tiff(tmp_path / "exp_projections" / "P0001_CH01_000000.ome.tiff")
    (image,) = ome.images
    assert image.name == "right"
    assert (image.pixels.physical_size_x, image.pixels.physical_size_y) == (0.5, 0.5)
    assert image.pixels.physical_size_x_unit.value == "µm"
    assert [channel.name for channel in image.pixels.channels] == ["FITC"]
    assert (image.pixels.size_x, image.pixels.size_z, image.pixels.size_c) == (32, 1, 1)


def test_a_preview_is_an_8_bit_png(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, frame_shape=(32, 40, 3), dtype="uint16"))
    writer = BigTiffWriter(
        tmp_path / "exp.ome.tiff", max_projection=MaxProjection(axes="z", preview=True)
    )
    record(core, seq(z_plan=STACK), [writer], progress=False)
    shown = cv2.imread(str(tmp_path / "exp_projections" / "P0000_CH00_000000.png"), -1)
    assert (shown.shape, shown.dtype) == ((32, 40, 3), np.uint8)
    pixels = writer.projections["P0000_CH00_000000"].astype(float)
    expected = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * 255
    assert np.abs(shown[..., ::-1] - expected).max() <= 1


def test_nan_is_what_numpy_makes_of_it(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).random((3, 20, 30), np.float32)
    frames[1, 2, 3] = np.nan
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=MaxProjection(preview=True))
    writer.begin(30, 20, sizes={"z": 3})
    for frame in frames:
        writer.add_frame(frame)
    writer.finish()
    np.testing.assert_array_equal(writer.projections["P0000_CH00_000000"], frames.max(axis=0))


def test_frames_that_are_not_kept_are_projected_only_when_asked(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    flags = [True, False, False, True]
    plan = seq(z_plan={"absolute": [0, 1, 2, 3]})
    for name, unsaved in (("without", False), ("with", True)):
        writer = BigTiffWriter(
            tmp_path / f"{name}.ome.tiff",
            save_frame=flags,
            max_projection=MaxProjection(unsaved=unsaved),
        )
        record(core, plan, [writer], progress=False)
        seen = [z for z in range(4) if flags[z] or unsaved]
        expected = np.max([stamp({"z": z}, (32, 32), "uint16") for z in seen], axis=0)
        np.testing.assert_array_equal(writer.projections["P0000_CH00_000000"], expected)


def test_writers_side_by_side_have_folders_of_their_own(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    writers = [
        BigTiffWriter(tmp_path / name, max_projection=True) for name in ("exp.tif", "exp.ome.tif")
    ]
    record(core, seq(z_plan=STACK), writers, progress=False)
    folders = {path.parent for writer in writers for path in writer.paths} - {tmp_path}
    assert {f.name for f in folders} == {"exp_projections", "exp_projections_1"}


def test_overwriting_a_recording_replaces_its_projections_only(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    other = tmp_path / "other_projections"
    other.mkdir()
    record(
        core,
        seq(time_plan=TIME, z_plan=STACK),
        [BigTiffWriter(tmp_path / "exp.tif", max_projection=True)],
        progress=False,
    )
    record(
        core,
        seq(z_plan=STACK),
        [BigTiffWriter(tmp_path / "exp.tif", max_projection=True, overwrite=True)],
        progress=False,
    )
    assert [f.name for f in (tmp_path / "exp_projections").iterdir()] == [
        "P0000_CH00_000000.ome.tiff"
    ]
    assert other.exists()


def test_a_recording_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.tif", max_projection=True)
    with pytest.raises(WriteError, match="cannot hold pixels of type uint64"):
        writer.begin(8, 8, False, dtype="uint64", sizes={"z": 3})
    assert list(tmp_path.iterdir()) == []


def test_without_frames_there_is_no_folder(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, skip=lambda event: True))
    writer = BigTiffWriter(tmp_path / "exp.tif", max_projection=True)
    record(core, seq(z_plan=STACK), [writer], progress=False)
    assert not (tmp_path / "exp_projections").exists()
    assert dict(writer.projections) == {}


def test_the_recording_names_the_folder(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    writer = BigTiffWriter(tmp_path / "exp.tif", max_projection=True)
    record(core, seq(z_plan=STACK), [writer], progress=False)
    content = orjson.loads((tmp_path / "exp.tif_recording.json").read_bytes())
    assert content["projections"] == "exp_projections"


@pytest.mark.parametrize("wrong", ["p", "", "xyz", "zq"])
def test_axes_that_cannot_be_projected_are_refused(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes axes out of t, c, z"):
        BigTiffWriter(tmp_path / "exp.tif", max_projection=wrong)


def test_a_projection_that_cannot_be_written_is_told_and_the_frames_are_kept(
    tmp_path: Path,
) -> None:
    frames: Any = np.random.default_rng(0).integers(0, 9999, (6, 20, 30), np.uint16)
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff", max_projection=True)
    writer.begin(30, 20, sizes={"t": 2, "z": 3})
    (tmp_path / "exp_projections").rmdir()  # someone tidied up
    for frame in frames[:3]:
        writer.add_frame(frame)
    with pytest.raises(WriteError, match="exp_projections"):
        writer.finish()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "exp.ome.tiff"), frames[:3])


def test_useq_grids_have_projections_of_each_tile(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    grid = useq.GridRowsColumns(rows=1, columns=2, fov_width=16, fov_height=16)
    writer = BigTiffWriter(tmp_path / "exp.tif", max_projection=True)
    record(core, seq(grid_plan=grid, z_plan=STACK), [writer], progress=False)
    assert sorted(writer.projections) == ["P0000_G0000_CH00_000000", "P0000_G0001_CH00_000000"]


def test_a_disk_without_room_for_projections_is_told_and_keeps_the_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 9999, (60, 128, 128), np.uint16)
    with small_disk(tmp_path / "disk") as disk:
        writer = BigTiffWriter(disk / "exp.ome.tiff", max_projection=True)
        writer.begin(128, 128, False, dtype="uint16", sizes={"t": 60})
        with pytest.raises(DiskFullError):
            for t, frame in enumerate(frames):
                writer.add_frame(frame)
                if t == 20:
                    writer.isel(t=0, y=0)  # returns when all of them are on disk
                    fill(disk / "somebody")
            writer.finish()
        (disk / "somebody").unlink()
        with pytest.raises(DiskFullError):
            writer.finish()
        written = writer.frames_written
        assert written > 20
        stored = tifffile.imread(disk / "exp.ome.tiff")
        np.testing.assert_array_equal(stored[:written], frames[:written])
        found = list((disk / "exp_projections").iterdir())
        assert len(found) > 20
        for file in found:
            t = int(file.name.split("_")[2][:6])
            np.testing.assert_array_equal(tifffile.imread(file), frames[t])
