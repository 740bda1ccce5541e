"""File series: a stack is a file, complete when it is announced, and never touched again."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import numpy as np
import ome_types
import pytest
import tifffile

from engine import StampedEngine
from mda_writers import TiffSeriesWriter, WriteError, record, verify
from mda_writers.formats.tiff import series
from plans import CHANNELS, POSITIONS, STACK, TIME, seq
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


def names_in(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*.tif"))


def test_the_files_of_a_plan_are_named_by_channel_and_time_point(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    record(
        core,
        seq(time_plan=TIME, channels=CHANNELS, z_plan=STACK),
        [TiffSeriesWriter(tmp_path)],
        progress=False,
    )
    assert names_in(tmp_path) == [
        f"run_000/CH{c:02d}_{t:06d}.tif" for c in range(2) for t in range(3)
    ]
    for c in range(2):
        for t in range(3):
            stack = tifffile.imread(tmp_path / f"run_000/CH{c:02d}_{t:06d}.tif")
            assert stack.shape == (3, 32, 32)
            for z in range(3):
                check_stamp(stack[z], {"c": c, "t": t, "z": z})


def test_several_positions_have_folders(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    plan = seq(stage_positions=POSITIONS, channels=CHANNELS, z_plan=STACK)
    record(core, plan, [TiffSeriesWriter(tmp_path, ome=True)], progress=False)
    assert names_in(tmp_path) == [
        f"run_000/Position{p}/CH{c:02d}_000000.ome.tif" for p in range(2) for c in range(2)
    ]
    ome = ome_types.from_tiff(tmp_path / "run_000/Position1/CH01_000000.ome.tif")
    (image,) = ome.images
    assert image.name == "right"
    assert [channel.name for channel in image.pixels.channels] == ["FITC"]
    assert (image.pixels.physical_size_x, image.pixels.physical_size_z) == (0.5, 2)
    assert (image.pixels.size_z, image.pixels.size_c, image.pixels.size_t) == (3, 1, 1)


def test_imagej_opens_a_stack_as_a_hyperstack_with_its_scale(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    record(core, seq(z_plan=STACK), [TiffSeriesWriter(tmp_path)], progress=False)
    with tifffile.TiffFile(tmp_path / "run_000/CH00_000000.tif") as tif:
        assert tif.is_imagej and not tif.is_bigtiff
        assert (tif.series[0].axes, tif.series[0].shape) == ("ZYX", (3, 32, 32))
        assert tif.imagej_metadata["spacing"] == 2
        assert tif.imagej_metadata["unit"] == "um"
        numerator, denominator = tif.pages[0].tags["XResolution"].value
        assert numerator / denominator == 2  # pixels per µm


@pytest.mark.parametrize(("bigtiff", "is_big"), [(None, False), (True, True), (False, False)])
@pytest.mark.parametrize("ome", [True, False])
def test_files_are_32_bit_unless_told_otherwise(
    ome: bool, bigtiff: bool | None, is_big: bool, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    writer = TiffSeriesWriter(tmp_path, ome=ome, bigtiff=bigtiff)
    record(core, seq(z_plan=STACK, time_plan=TIME), [writer], progress=False)
    for path in tmp_path.rglob("*.tif"):
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff is is_big
            assert tif.asarray().shape == (3, 32, 32)


def test_files_too_large_for_32_bits_are_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "MOST_32_BIT", 5000)
    frames = np.random.default_rng(0).integers(0, 9999, (3, 40, 40), np.uint16)
    writer = TiffSeriesWriter(tmp_path)
    writer.begin(40, 40, sizes={"z": 3})
    for frame in frames:
        writer.add_frame(frame)
    writer.finish()
    with tifffile.TiffFile(tmp_path / "run_000/CH00_000000.tif") as tif:
        assert tif.is_bigtiff
        np.testing.assert_array_equal(tif.asarray(), frames)
    forced = TiffSeriesWriter(tmp_path, bigtiff=False)
    with pytest.raises(WriteError, match="Leave out bigtiff=False"):
        forced.begin(40, 40, False, dtype="uint16", sizes={"z": 3})
    assert not (tmp_path / "run_001").exists()


def test_a_finished_file_is_announced_and_can_be_moved_away_while_the_run_goes_on(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    announced = []

    def move(path: Path) -> None:
        announced.append((path.name, writer.frames_written))
        shutil.move(path, away)

    core.mda.set_engine(StampedEngine(core, on_frame=lambda n: time.sleep(0.01)))
    writer = TiffSeriesWriter(tmp_path / "exp", on_file=move)
    (report,) = record(core, seq(time_plan=TIME, z_plan=STACK), [writer], progress=False)
    assert report.complete
    assert [name for name, _ in announced] == [f"CH00_{t:06d}.tif" for t in range(3)]
    assert announced[0][1] < 9, "told of the first file when all was over"
    assert names_in(tmp_path / "exp") == []
    for t in range(3):
        stack = tifffile.imread(away / f"CH00_{t:06d}.tif")
        for z in range(3):
            check_stamp(stack[z], {"t": t, "z": z})
    assert all(path.exists() for path in writer.paths)
    with pytest.raises(FileNotFoundError, match="was moved away"):
        writer.isel(t=0, z=0)


def test_files_are_announced_without_a_further_frame(tmp_path: Path) -> None:
    announced: list[Path] = []
    writer = TiffSeriesWriter(tmp_path, on_file=announced.append)
    writer.begin(16, 16, sizes={"t": 5, "z": 2})
    for _ in range(2):
        writer.add_frame(np.ones((16, 16), np.uint8))
    deadline = time.monotonic() + 5
    while not announced and time.monotonic() < deadline:
        time.sleep(0.01)
    assert announced == [tmp_path / "run_000/CH00_000000.tif"]
    assert announced[0] in writer.paths
    writer.finish()


def test_finished_files_are_never_touched_again(tmp_path: Path) -> None:
    seen: dict[Path, tuple[bytes, int]] = {}
    writer = TiffSeriesWriter(
        tmp_path, on_file=lambda p: seen.update({p: (p.read_bytes(), p.stat().st_mtime_ns)})
    )
    writer.begin(16, 16, sizes={"t": 5, "z": 2})
    for n in range(7):
        writer.add_frame(np.full((16, 16), n, np.uint8))
    writer.finish()
    assert len(seen) == 4
    for path, (content, modified) in seen.items():
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, modified)


@pytest.mark.parametrize("side", [16, 200])
@pytest.mark.parametrize("ome", [True, False])
def test_a_stack_that_was_cut_short_holds_what_was_taken(
    ome: bool, side: int, tmp_path: Path
) -> None:
    frames = np.random.default_rng(0).integers(0, 99, (13, side, side), np.uint8)
    announced: list[Path] = []
    writer = TiffSeriesWriter(tmp_path, ome=ome, on_file=announced.append)
    writer.begin(side, side, sizes={"t": 5, "z": 10})
    for frame in frames:
        writer.add_frame(frame)
    report = writer.finish()
    assert not report.complete
    assert len(announced) == 2
    for t, expected in enumerate((frames[:10], frames[10:])):
        np.testing.assert_array_equal(tifffile.imread(announced[t]), expected)
        with tifffile.TiffFile(announced[t]) as tif:
            assert len(tif.pages) == len(expected)
    if ome:
        assert ome_types.from_tiff(announced[1]).images[0].pixels.size_z == 3


def test_planes_that_never_came_are_zero(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(1, 99, (6, 16, 16), np.uint8)
    for run, sizes in enumerate(({"z": 6}, None)):
        writer = TiffSeriesWriter(tmp_path, ome=True)
        writer.begin(16, 16, sizes=sizes)
        for z in (0, 5, 1):
            writer.add_frame(frames[z], index={"z": z})
        live = writer.isel(t=0) if sizes is None else writer.isel()
        writer.finish()
        stack = tifffile.imread(tmp_path / f"run_{run:03d}/CH00_000000.ome.tif")
        for found in (stack, np.squeeze(live)):
            np.testing.assert_array_equal(found[[0, 1, 5]], frames[[0, 1, 5]])
            assert not found[2:5].any()


def test_an_open_series_of_single_frames_is_announced_as_it_grows(tmp_path: Path) -> None:
    announced: list[Path] = []
    writer = TiffSeriesWriter(tmp_path, on_file=announced.append)
    writer.begin(16, 16)
    for n in range(3):
        writer.add_frame(np.full((16, 16), n, np.uint8))
        writer.isel(t=n)
    deadline = time.monotonic() + 5
    while len(announced) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [path.name for path in announced] == [f"CH00_{t:06d}.tif" for t in range(3)]
    for n, path in enumerate(announced):
        assert (tifffile.imread(path) == n).all()
    assert writer.finish().complete


def test_each_run_has_a_new_folder_and_numbers_go_on(tmp_path: Path) -> None:
    for run in range(2):
        writer = TiffSeriesWriter(tmp_path)
        for again in range(2):
            writer.begin(16, 16, sizes={"t": 2})
            writer.add_frame(np.ones((16, 16), np.uint8))
            writer.finish()
            assert (tmp_path / f"run_{2 * run + again:03d}" / "CH00_000000.tif").exists()
    shutil.rmtree(tmp_path / "run_003")  # moved away; its sidecar is still there
    writer.begin(16, 16)
    writer.add_frame(np.ones((16, 16), np.uint8))
    writer.finish()
    assert (tmp_path / "run_004" / "CH00_000000.tif").exists()


def test_numbers_of_time_points_go_on_when_asked(tmp_path: Path) -> None:
    for _ in range(3):
        writer = TiffSeriesWriter(tmp_path, continue_numbers=True)
        writer.begin(16, 16, sizes={"t": 2})
        for _ in range(2):
            writer.add_frame(np.ones((16, 16), np.uint8))
        writer.finish()
    assert names_in(tmp_path) == [
        f"run_{r:03d}/CH00_{2 * r + t:06d}.tif" for r in range(3) for t in range(2)
    ]


def test_names_come_from_a_template(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    writer = TiffSeriesWriter(tmp_path, template="{position}_{channel}_p{p}t{t:02d}")
    record(
        core,
        seq(stage_positions=POSITIONS, channels=CHANNELS, time_plan=TIME),
        [writer],
        progress=False,
    )
    assert "run_000/Position1/right_FITC_p1t02.tif" in names_in(tmp_path)
    assert len(names_in(tmp_path)) == 12


@pytest.mark.parametrize(
    "template", ["{nope}", "{c", "a/{c}_{t}", "", "{c.real}_{t}", "{0}", "{t:zz}"]
)
def test_templates_that_give_no_names_are_refused(template: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it takes c, t, p, channel, position"):
        TiffSeriesWriter(tmp_path, template=template)


@pytest.mark.parametrize("template", ["{t:06d}", "CH{c}", "fixed"])
def test_two_files_of_one_name_are_refused_before_the_run(
    template: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    plan = seq(time_plan={"interval": 0, "loops": 12}, channels=CHANNELS)
    for events in (plan, list(plan)):
        writer = TiffSeriesWriter(tmp_path, template=template)
        with pytest.raises(WriteError, match="for c="):
            record(core, events, [writer], progress=False)
    assert list(tmp_path.iterdir()) == []


def test_pixels_that_imagej_does_not_know_are_refused_before_the_run(tmp_path: Path) -> None:
    writer = TiffSeriesWriter(tmp_path)
    with pytest.raises(WriteError, match="Pass ome=True"):
        writer.begin(16, 16, False, dtype="float64", sizes={"z": 3})
    assert list(tmp_path.iterdir()) == []


def test_a_failing_callback_does_not_end_the_acquisition(
    core: CMMCorePlus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path) -> None:
        raise OSError("the server is gone")

    core.mda.set_engine(StampedEngine(core))
    writer = TiffSeriesWriter(tmp_path, on_file=fail)
    (report,) = record(core, seq(time_plan=TIME, z_plan=STACK), [writer], progress=False)
    assert report.complete
    assert caplog.text.count("the server is gone") >= 3


def test_frames_that_are_not_kept_leave_their_stack_open_until_the_end(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    writer = TiffSeriesWriter(
        tmp_path, save_frame=lambda e, m: e.index["z"] < 2, max_projection=True
    )
    (report,) = record(core, seq(time_plan=TIME, z_plan=STACK), [writer], progress=False)
    assert (report.frames_written, report.not_saved, report.complete) == (6, 3, True)
    for t in range(3):
        stack = tifffile.imread(tmp_path / f"run_000/CH00_{t:06d}.tif")
        frames = [stamp({"t": t, "z": z}, (32, 32), "uint16") for z in range(2)]
        np.testing.assert_array_equal(stack, frames)
        top = tifffile.imread(tmp_path / f"run_000_projections/P0000_CH00_{t:06d}.ome.tiff")
        np.testing.assert_array_equal(top, np.max(frames, axis=0))


def test_every_frame_checks_out(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    plan = seq(stage_positions=POSITIONS, channels=CHANNELS, z_plan=STACK)
    record(core, plan, [TiffSeriesWriter(tmp_path)], progress=False)
    result = verify(tmp_path / "run_000", progress=False)
    assert result.ok and result.frames_checked == 12
    path = tmp_path / "run_000/Position1/CH01_000000.tif"
    content = bytearray(path.read_bytes())
    content[4096 + 2048 + 7] ^= 1
    path.write_bytes(content)
    (fault,) = verify(tmp_path / "run_000", progress=False).faults
    assert (fault.index["p"], fault.index["c"], fault.index["z"]) == (1, 1, 1)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="Name a folder"):
        TiffSeriesWriter(tmp_path / "file")
