"""``save_frame`` keeps the frames it says, and everybody is told of the others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from contracts.kind import BigTiff, on_record
from engine import StampedEngine
from formats import FORMATS, new_writer
from mda_writers import (
    BigTiffWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    WriteError,
    open_dataset,
    record,
    recover,
    verify,
)
from mda_writers.errors import FrameError
from plans import (
    NAMED,
    POSITIONS,
    STACK,
    TIME,
    Plan,
    engine_for,
    expected_indices,
    expected_stamps,
    plans_named,
    seq,
)
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

CHOSEN = plans_named(
    "order_tpcz",
    "order_zcpt",
    "acquire_every_third",
    "ragged_in_everything",
    "list_of_events",
    "events_without_index",
    "queue_growing_in_odd_order",
    "events_with_custom_axes",
    "skipped_by_number",
    "two_cameras",
    "two_cameras_without_channels",
    "two_cameras_on_a_list_of_events",
    "cameras_of_other_sizes",
    "rgb",
)
TEN = {"interval": 0, "loops": 10}


@pytest.mark.parametrize("plan", CHOSEN, ids=str)
def test_every_second_frame_of_a_plan_is_where_its_event_says_and_the_others_are_listed(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    path = tmp_path / "exp.ome.tif"
    numbers = iter(range(10_000))
    writer = BigTiffWriter(path, save_frame=lambda event, meta: next(numbers) % 2 == 0)
    (report,) = record(core, plan.events(), [writer], progress=False)
    indices, stamps = expected_indices(plan), expected_stamps(plan)
    found = [frame.ours for frame in on_record(path)]
    assert [entry["index"] for entry in found] == indices
    read = BigTiff().reader(tmp_path)
    for n, (entry, stamped) in enumerate(zip(found, stamps, strict=True)):
        if n % 2:
            assert entry["saved"] is False
            assert not {"file", "ifd", "xxh3_64"} & entry.keys()
        else:
            assert "saved" not in entry
            check_stamp(read(entry), stamped)
    assert report.frames_received == len(indices)
    assert report.frames_written == (len(indices) + 1) // 2
    assert report.not_saved == len(indices) // 2
    assert report.frames_missing == 0
    assert report.complete is (plan.skip is None)


def test_flags_choose_frames_by_number(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    flags = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1, 0], bool)
    writer = BigTiffWriter(tmp_path / "exp.tif", save_frame=flags)
    (report,) = record(core, seq(time_plan=TEN), [writer], progress=False)
    assert (report.frames_written, report.not_saved, report.complete) == (4, 6, True)
    pixels = tifffile.imread(tmp_path / "exp.tif")
    assert len(pixels) == 9  # up to the last frame that was kept
    for t in range(9):
        wanted = stamp({"t": t}, (32, 32), "uint16") if flags[t] else np.zeros((32, 32))
        np.testing.assert_array_equal(pixels[t], wanted)


def test_a_function_is_given_the_event_and_the_metadata(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    seen = []

    def save(event: Any, metadata: Any) -> Any:
        seen.append((event.index["t"], metadata["mda_event"].index["t"], metadata["exposure_ms"]))
        return np.bool_(event.index["t"] > 4)

    writer = BigTiffWriter(tmp_path / "exp.tif", save_frame=save)
    (report,) = record(core, seq(time_plan=TEN), [writer], progress=False)
    assert [(a, b) for a, b, _ in seen] == [(t, t) for t in range(10)]
    assert report.frames_written == 5


def test_direct_mode_asks_with_index_and_metadata(tmp_path: Path) -> None:
    frames = np.arange(6 * 20 * 30, dtype=np.uint16).reshape(6, 20, 30)
    writer = BigTiffWriter(
        tmp_path / "exp.ome.tif",
        save_frame=lambda event, meta: event.index["t"] == 1 or meta["bright"],
    )
    writer.begin(30, 20)
    for n, frame in enumerate(frames):
        writer.add_frame(frame, metadata={"bright": n == 4})
    report = writer.finish()
    assert (report.frames_written, report.not_saved) == (2, 4)
    pixels = tifffile.imread(tmp_path / "exp.ome.tif")
    np.testing.assert_array_equal(pixels[[1, 4]], frames[[1, 4]])
    assert not pixels[[0, 2, 3]].any()


def test_an_image_of_which_nothing_is_kept_has_no_file(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    plan = NAMED["order_tpcz"]
    writer = BigTiffWriter(
        tmp_path / "exp.ome.tif", save_frame=lambda event, meta: event.index["p"] == 0
    )
    (report,) = record(core, plan.events(), [writer], progress=False)
    assert [f.name for f in tmp_path.glob("*.ome.tif")] == ["exp_left.ome.tif"]
    assert all((tmp_path / path).exists() for path in report.paths)
    assert report.complete


def test_nothing_kept_at_all_is_still_a_truthful_recording(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    writer = BigTiffWriter(tmp_path / "exp.tif", save_frame=lambda event, meta: False)
    (report,) = record(core, seq(time_plan=TEN), [writer], progress=False)
    assert (report.frames_written, report.not_saved, report.complete) == (0, 10, True)
    assert not (tmp_path / "exp.tif").exists()
    assert (tmp_path / "exp.tif_frame_metadata.json").exists()
    assert len(on_record(tmp_path / "exp.tif")) == 10


def test_frames_that_are_not_kept_take_no_room(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, frame_shape=(512, 512)))
    writer = BigTiffWriter(tmp_path / "exp.ome.tif", save_frame=[n == 9 for n in range(10)])
    record(core, seq(time_plan=TEN), [writer], progress=False)
    stat = (tmp_path / "exp.ome.tif").stat()
    assert stat.st_size > 10 * 512 * 512 * 2
    if hasattr(stat, "st_blocks"):
        assert stat.st_blocks * 512 < 3 * 512 * 512 * 2


def test_a_cancelled_run_misses_only_what_never_came(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(
        StampedEngine(core, on_frame=lambda n: core.mda.cancel() if n == 3 else None)
    )
    writer = BigTiffWriter(
        tmp_path / "exp.tif", save_frame=lambda event, meta: event.index["t"] % 2 == 0
    )
    (report,) = record(core, seq(time_plan=TEN), [writer], progress=False)
    assert report.frames_written + report.not_saved == report.frames_received
    assert report.frames_missing == 10 - report.frames_received
    assert not report.complete


def test_a_failing_function_ends_the_run_loudly_and_keeps_what_came_before(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    writer = BigTiffWriter(
        tmp_path / "exp.tif",
        save_frame=lambda event, meta: bool(1 // (5 - event.index["t"])) or True,
    )
    with pytest.raises(
        WriteError, match=r"save_frame failed at frame 5, \(t=5\) \(ZeroDivisionError"
    ):
        record(core, seq(time_plan=TEN), [writer], progress=False)
    pixels = tifffile.imread(tmp_path / "exp.tif")
    for t in range(5):
        check_stamp(pixels[t], {"t": t})


def test_flags_that_do_not_fit_the_plan_are_refused_before_anything_is_written(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    writer = BigTiffWriter(tmp_path / "exp.tif", save_frame=[True] * 9)
    with pytest.raises(WriteError, match="save_frame has 9 flags, and the plan has 10 frames"):
        record(core, seq(time_plan=TEN), [writer], progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [7, "yes", [0, 5, 7], [[True], [False]]], ids=str)
def test_flags_that_are_none_are_refused(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_frame takes"):
        BigTiffWriter(tmp_path / "exp.tif", save_frame=wrong)


WRITERS = [
    (BigTiffWriter, "exp.ome.tif", {}),
    (OMEZarrWriter, "exp.ome.zarr", {}),
    (OMEZarrWriter, "exp.zarr", {"compression": "blosc-lz4", "levels": 2}),
    (CV2Writer, "exp.mkv", {"fourcc": "FFV1"}),
    (TiffSeriesWriter, "exp", {}),
]


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
@pytest.mark.parametrize(("kind", "name", "options"), WRITERS, ids=lambda value: str(value))
def test_every_writer_chooses_and_projects(
    kind: Any, name: str, options: dict[str, Any], planned: bool, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core, dtype="uint8"))
    sequence = seq(stage_positions=POSITIONS, time_plan=TIME, channels=["DAPI"], z_plan=STACK)
    writer = kind(
        tmp_path / name,
        save_frame=lambda event, meta: event.index["t"] != 1 and event.index["z"] != 2,
        max_projection=True,
        **options,
    )
    events = sequence if planned else list(sequence)
    (report,) = record(core, events, [writer], progress=False)
    counts = (report.frames_written, report.not_saved, report.frames_missing)
    assert (counts, report.complete) == ((8, 10, 0), True)
    assert verify(report.path, progress=False).frames_checked == 8
    dataset = open_dataset(report.path)
    for index in ({"p": p, "t": t, "c": 0, "z": z} for p, t, z in np.ndindex(2, 3, 3)):
        kept = index["t"] != 1 and index["z"] != 2
        assert dataset.has_image(**index) is kept
        if kept:
            check_stamp(dataset.read_image(**index), index)
    for p, t in ((0, 0), (0, 2), (1, 0), (1, 2)):
        frames = [stamp({"p": p, "t": t, "c": 0, "z": z}, (32, 32), "uint8") for z in range(2)]
        found = writer.projections[f"P{p:04d}_CH00_{t:06d}"]
        np.testing.assert_array_equal(found, np.max(frames, axis=0))
    assert len(writer.projections) == 4


KILLED = """
import sys, time, numpy as np
from mda_writers import BigTiffWriter
writer = BigTiffWriter(
    sys.argv[1], save_frame=lambda e, m: e.index["z"] % 2 == 0, max_projection=True
)
writer.begin(64, 64, False, dtype="uint16", sizes={"t": 500, "z": 4})
rng = np.random.default_rng(0)
for n in range(2000):
    writer.add_frame(rng.integers(0, 9999, (64, 64), np.uint16))
    time.sleep(0.001)
    if n == 10:
        print("going", flush=True)
"""


def test_a_killed_run_tells_written_unsaved_and_missing_frames_apart(tmp_path: Path) -> None:
    path = tmp_path / "exp.ome.tif"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.4)
    child.kill()
    child.communicate()
    report = recover(path)
    assert not report.complete
    assert report.not_saved > 5 and report.frames_written > 5
    assert report.frames_received == report.frames_written + report.not_saved
    assert report.frames_missing == 2000 - report.frames_received
    rng = np.random.default_rng(0)
    frames = np.array([rng.integers(0, 9999, (64, 64), np.uint16) for _ in range(2000)])
    read = BigTiff().reader(tmp_path)
    for entry in (frame.ours for frame in on_record(path)):
        if entry.get("saved", True):
            np.testing.assert_array_equal(read(entry), frames[entry["number"]])
    projections = list((tmp_path / "exp_projections").glob("P*.ome.tiff"))
    assert projections
    for file in projections:  # each is whole
        t = int(file.name.split("_")[2][:6])
        expected = frames[4 * t : 4 * t + 4 : 2].max(axis=0)
        np.testing.assert_array_equal(tifffile.imread(file), expected)


# what a channel's preset sets of the camera
SETTINGS = {
    "full": {"Binning": "1", "PixelType": "16bit"},
    "binned": {"Binning": "2", "PixelType": "16bit"},
    "8_bit": {"Binning": "1", "PixelType": "8bit"},
}


@pytest.fixture
def switching(core: CMMCorePlus) -> CMMCorePlus:
    """Give a core whose channels switch binning and pixel type."""
    core.setProperty("Camera", "OnCameraCCDXSize", 64)
    core.setProperty("Camera", "OnCameraCCDYSize", 48)
    for preset, settings in SETTINGS.items():
        for name, value in settings.items():
            core.defineConfig("Channel", preset, "Camera", name, value)
    # upstream loses a frame of a short hardware sequence now and then
    core.mda.engine.use_hardware_sequencing = False
    return core


@pytest.mark.sample(7)
@pytest.mark.parametrize("selected", ["full", "binned"])
@pytest.mark.parametrize("channels", [("full", "binned"), ("binned", "full"), ("full", "8_bit")])
@pytest.mark.parametrize("fmt", FORMATS)
def test_two_writers_keep_two_channels_of_other_frames(
    fmt: str,
    channels: tuple[str, str],
    selected: str,
    switching: CMMCorePlus,
    tmp_path: Path,
) -> None:
    switching.setConfig("Channel", selected)
    seen: dict[tuple[str, int, int], np.ndarray] = {}

    def see(image: np.ndarray, event: Any) -> None:
        seen[event.channel.config, event.index["p"], event.index["t"]] = image.copy()

    switching.mda.events.frameReady.connect(see)
    writers = {
        channel: new_writer(fmt, tmp_path / channel, save_frame=only(channel))
        for channel in channels
    }
    sequence = seq(channels=channels, time_plan=TIME, stage_positions=POSITIONS)
    for report in record(switching, sequence, writers.values(), progress=False):
        assert (report.complete, report.missing) == (True, [])
        assert (report.frames_written, report.not_saved) == (6, 6)
    for channel, writer in writers.items():
        assert verify(writer.path, progress=False).ok
        c = channels.index(channel)
        with open_dataset(writer.path) as dataset:
            assert len(dataset.image_coordinates) == 6
            for p in range(2):
                for t in range(3):
                    pixels = dataset.read_image(p=p, t=t, c=c)
                    np.testing.assert_array_equal(pixels, seen[channel, p, t])


def only(channel: str) -> Any:
    return lambda event, metadata: event.channel.config == channel


def test_cameras_of_other_sizes_by_presets_have_a_writer_each(
    switching: CMMCorePlus, tmp_path: Path
) -> None:
    switching.loadDevice("Second", "DemoCamera", "DCam")
    switching.initializeDevice("Second")
    switching.setProperty("Second", "OnCameraCCDXSize", 80)
    for preset, camera in {"One": "Camera", "Two": "Second"}.items():
        switching.defineConfig("Channel", preset, "Core", "Camera", camera)
    writers = [
        BigTiffWriter(tmp_path / f"{name}.ome.tiff", save_frame=only(name))
        for name in ("One", "Two")
    ]
    sequence = seq(channels=["One", "Two"], time_plan=TIME)
    for report in record(switching, sequence, writers, progress=False):
        assert (report.complete, report.frames_written, report.not_saved) == (True, 3, 3)


def test_without_save_frame_the_error_says_the_way_out(
    switching: CMMCorePlus, tmp_path: Path
) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    with pytest.raises(FrameError, match="a save_frame that leaves out the others"):
        record(switching, seq(channels=["full", "binned"]), writer, progress=False)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    "given", [{}, {"dtype": "uint16", "is_color": False}], ids=["learned", "given"]
)
def test_direct_mode_leaves_out_frames_of_any_size_and_type(
    fmt: str, given: dict[str, Any], tmp_path: Path
) -> None:
    writer = new_writer(fmt, tmp_path, save_frame=lambda event, meta: event.index["c"] == 1)
    writer.begin(32, 32, sizes={"t": 3, "c": 2}, **given)
    odd = [np.zeros((16, 24), np.uint8), np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), "f4")]
    for t in range(3):
        writer.add_frame(odd[t])
        writer.add_frame(stamp({"t": t, "c": 1}, (32, 32), "uint16"))
    report = writer.finish()
    assert (report.complete, report.frames_written, report.not_saved) == (True, 3, 3)
    with open_dataset(writer.path) as dataset:
        for t in range(3):
            check_stamp(dataset.read_image(t=t, c=1), {"t": t, "c": 1})


def test_direct_mode_ends_with_a_sentence_when_a_kept_frame_does_not_fit(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff", save_frame=lambda event, meta: True)
    writer.begin(32, 32)
    writer.add_frame(np.zeros((32, 32), np.uint16))
    writer.add_frame(np.zeros((16, 32), np.uint16))
    with pytest.raises(FrameError, match=r"\(16, 32\), the recording was begun for"):
        writer.finish()
    with open_dataset(tmp_path / "a.ome.tiff") as dataset:
        assert len(dataset.image_coordinates) == 1


def test_an_interrupted_recording_of_frames_that_were_left_out_is_recovered(
    switching: CMMCorePlus, tmp_path: Path
) -> None:
    folder = tmp_path / "live"
    writer = BigTiffWriter(folder / "a.ome.tiff", save_frame=only("binned"))
    torn = tmp_path / "torn"

    def look(image: np.ndarray, event: Any) -> None:
        if event.index == {"t": 2, "c": 1}:
            assert writer.frame_metadatas is not None  # returns when all frames are on disk
            shutil.copytree(folder, torn)

    with writer.connected(switching):
        switching.mda.events.frameReady.connect(look)
        switching.mda.run(seq(channels=["full", "binned"], time_plan=TIME))
    report = recover(torn / "a.ome.tiff")
    assert (report.frames_written, report.not_saved, report.frames_missing) == (3, 3, 0)
