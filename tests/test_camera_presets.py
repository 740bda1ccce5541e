"""Channels whose presets switch the camera: each frame at its place, under its camera's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import ome_types
import pytest
import useq

from formats import FORMATS, new_writer
from mda_writers import BigTiffWriter, convert, open_dataset, record, recover, verify

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

TIME = {"interval": 0, "loops": 2}
STACK = {"range": 2, "step": 1}

# channels, the camera that is selected before, and the names that the recording's channels get
CASES: dict[str, tuple[list[str], str, list[str], list[str]]] = {
    "both_then_one": (
        ["Both", "One"],
        "Camera",
        ["Both:Camera", "Both:Second", "One"],
        ["Camera", "Second", "Camera"],
    ),
    "one_then_both": (
        ["One", "Both"],
        "Multi",
        ["One", "Both:Camera", "Both:Second"],
        ["Camera", "Camera", "Second"],
    ),
    "two_single_cameras": (["One", "Two"], "Multi", ["One", "Two"], ["Camera", "Second"]),
    "one_that_is_not_selected": (["Two"], "Camera", ["Two"], ["Second"]),
    "three_kinds": (
        ["Two", "Both", "One"],
        "Second",
        ["Two", "Both:Camera", "Both:Second", "One"],
        ["Second", "Camera", "Second", "Camera"],
    ),
    # DAPI's preset says nothing of cameras: it is taken with the one that is selected by then
    "the_last_one_stays": (
        ["Both", "DAPI"],
        "Camera",
        ["Both:Camera", "Both:Second", "DAPI:Camera", "DAPI:Second"],
        ["Camera", "Second", "Camera", "Second"],
    ),
    "one_camera_at_first_and_two_later": (
        ["DAPI", "Both"],
        "Camera",
        ["DAPI:Camera", "DAPI:Second", "Both:Camera", "Both:Second"],
        ["Camera", "Second", "Camera", "Second"],
    ),
}


@pytest.fixture
def cameras(core: CMMCorePlus) -> CMMCorePlus:
    """Give a core with two cameras, a Multi Camera of both, and presets that switch."""
    core.loadDevice("Second", "DemoCamera", "DCam")
    core.initializeDevice("Second")
    core.loadDevice("Multi", "Utilities", "Multi Camera")
    core.initializeDevice("Multi")
    core.setProperty("Multi", "Physical Camera 1", "Camera")
    core.setProperty("Multi", "Physical Camera 2", "Second")
    for camera in ("Camera", "Second"):
        for name, value in {"OnCameraCCDXSize": 64, "OnCameraCCDYSize": 48}.items():
            core.setProperty(camera, name, value)
        core.setProperty(camera, "PixelType", "16bit")
    for preset, camera in {"Both": "Multi", "One": "Camera", "Two": "Second"}.items():
        core.defineConfig("Channel", preset, "Core", "Camera", camera)
    # upstream loses a frame of a short hardware sequence now and then
    core.mda.engine.use_hardware_sequencing = False
    return core


class Seen:
    """Keeps what the run hands out: event index → pixels and the camera that took them."""

    def __init__(self, core: CMMCorePlus) -> None:
        self.frames: list[tuple[dict[str, int], np.ndarray, str]] = []
        core.mda.events.frameReady.connect(self.frameReady)

    def frameReady(self, image: np.ndarray, event: useq.MDAEvent, meta: Any) -> None:
        index = {str(axis): i for axis, i in event.index.items()}
        self.frames.append((index, image.copy(), meta["camera_device"]))


def check(seen: Seen, path: Path) -> None:
    """Check every frame that the run handed out: its pixels and its camera, at its index."""
    with open_dataset(path) as dataset:
        assert (dataset.complete, dataset.missing) == (True, [])
        assert len(dataset.image_coordinates) == len(seen.frames)
        several = {"cam": 0} if any("cam" in index for index, _, _ in seen.frames) else {}
        for index, pixels, camera in seen.frames:
            at = {**several, **index}
            assert np.array_equal(dataset.read_image(**at), pixels), index
            assert dataset.read_metadata(**at)["camera_device"] == camera
            if at.keys() >= dataset.axes.keys():
                part = dataset.as_array(axes=[], **at)
                assert np.array_equal(np.asarray(part), pixels)


@pytest.mark.parametrize("order", ["tpcz", "pzct", "ctzp"])
@pytest.mark.parametrize("case", CASES)
def test_frames_are_where_they_belong_under_the_names_of_their_cameras(
    case: str, order: str, cameras: CMMCorePlus, tmp_path: Path
) -> None:
    channels, selected, names, labels = CASES[case]
    cameras.setCameraDevice(selected)
    seen = Seen(cameras)
    plan: dict[str, Any] = {"channels": channels, "time_plan": TIME, "z_plan": STACK}
    sequence = useq.MDASequence(axis_order=order, stage_positions=[(0, 0, 0), (9, 0, 0)], **plan)
    (report,) = record(cameras, sequence, BigTiffWriter(tmp_path / "a.ome.tiff"), progress=False)
    assert (report.complete, report.skipped, report.missing) == (True, [], [])
    assert report.frames_expected == report.frames_written == len(seen.frames)
    check(seen, tmp_path / "a.ome.tiff")
    with open_dataset(tmp_path / "a.ome.tiff") as dataset:
        for image in dataset.source.contents.layout.images:
            if order != "ctzp":  # there, the camera never comes back to the first channel
                assert [channel.name for channel in image.channels] == names
                assert [channel.camera for channel in image.channels] == labels
    for file in tmp_path.glob("*.tiff"):
        for image in ome_types.from_tiff(file).images:
            assert image.pixels.size_c == len(image.pixels.channels)
            if order != "ctzp":
                assert [c.name for c in image.pixels.channels] == names


@pytest.mark.parametrize("case", ["both_then_one", "two_single_cameras", "the_last_one_stays"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_keeps_them_apart(
    fmt: str, case: str, cameras: CMMCorePlus, tmp_path: Path
) -> None:
    channels, selected, names, _ = CASES[case]
    cameras.setCameraDevice(selected)
    seen = Seen(cameras)
    writer = new_writer(fmt, tmp_path)
    sequence = useq.MDASequence(channels=channels, time_plan=TIME, z_plan=STACK)
    (report,) = record(cameras, sequence, writer, progress=False)
    assert report.complete
    check(seen, writer.path)
    assert verify(writer.path, progress=False).ok
    with open_dataset(writer.path) as dataset:
        assert dataset.channels == names


def test_channels_of_single_positions_may_switch_cameras_too(
    cameras: CMMCorePlus, tmp_path: Path
) -> None:
    seen = Seen(cameras)
    both = useq.MDASequence(channels=["DAPI", "Both"])
    one = useq.MDASequence(channels=["One"], z_plan=STACK)
    positions = [useq.Position(x=0, sequence=both), useq.Position(x=9, sequence=one)]
    sequence = useq.MDASequence(stage_positions=positions, time_plan=TIME, axis_order="ptcz")
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    (report,) = record(cameras, sequence, writer, progress=False)
    assert report.complete, report
    assert report.frames_expected == len(seen.frames) == 3 + 4 + 2 * 3
    check(seen, tmp_path / "a.ome.tiff")


def test_a_list_of_events_names_the_cameras_that_took_them(
    cameras: CMMCorePlus, tmp_path: Path
) -> None:
    seen = Seen(cameras)
    events = list(useq.MDASequence(channels=["One", "Two", "Both"], time_plan=TIME))
    (report,) = record(cameras, events, BigTiffWriter(tmp_path / "a.ome.tiff"), progress=False)
    assert report.complete
    assert report.frames_written == len(seen.frames) == 8
    with open_dataset(tmp_path / "a.ome.tiff") as dataset:
        shared, own = dataset.source.contents.layout.images
        assert [c.camera for c in shared.channels] == ["Camera", "Second", "Camera"]
        assert own.channels[-1].camera == "Second"
        for index, pixels, _ in seen.frames:
            assert np.array_equal(dataset.read_image(**{"cam": 0, **index}), pixels)


def test_missing_frames_of_a_cancelled_run_are_told_with_their_camera(
    cameras: CMMCorePlus, tmp_path: Path
) -> None:
    def cancel(image: np.ndarray, event: useq.MDAEvent) -> None:
        if dict(event.index) == {"t": 1, "c": 0, "cam": 1}:
            cameras.mda.cancel()

    cameras.mda.events.frameReady.connect(cancel)
    sequence = useq.MDASequence(channels=["Both", "One"], time_plan={"interval": 0, "loops": 3})
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    (report,) = record(cameras, sequence, writer, progress=False)
    assert (report.frames_expected, report.frames_written, report.frames_missing) == (9, 5, 4)
    missing = [{str(a): i for a, i in sorted(each.items())} for each in report.missing]
    assert missing == [
        {"c": 1, "cam": 0, "t": 1},
        {"c": 0, "cam": 0, "t": 2},
        {"c": 0, "cam": 1, "t": 2},
        {"c": 1, "cam": 0, "t": 2},
    ]
    with open_dataset(tmp_path / "a.ome.tiff") as dataset:
        assert dataset.missing[0] == {"t": 1, "c": "One"}
        assert len(dataset.missing) == 4


def test_a_recording_that_goes_on_knows_what_is_planned(
    cameras: CMMCorePlus, tmp_path: Path
) -> None:
    missing: list[int] = []

    def look(image: np.ndarray, event: useq.MDAEvent) -> None:
        if event.index["t"] == 1 and event.index["c"] == 0:
            writer.frame_metadatas  # noqa: B018 - returns when all frames are on disk
            with open_dataset(tmp_path / "a.ome.tiff") as dataset:
                missing.append(len(dataset.missing))

    sequence = useq.MDASequence(channels=["DAPI", "Both"], time_plan=TIME)
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    with writer.connected(cameras):
        cameras.mda.events.frameReady.connect(look)
        cameras.mda.run(sequence)
    assert missing == [3, 2]  # of 1 + 2, then 2 + 2 frames: after the 4th and the 5th


def test_converted_and_recovered_recordings_keep_the_cameras(
    cameras: CMMCorePlus, tmp_path: Path
) -> None:
    seen = Seen(cameras)
    sequence = useq.MDASequence(channels=["One", "Both"], time_plan=TIME)
    record(cameras, sequence, BigTiffWriter(tmp_path / "a.ome.tiff"), progress=False)
    convert(tmp_path / "a.ome.tiff", tmp_path / "b.ome.zarr", progress=False)
    check(seen, tmp_path / "b.ome.zarr")
    with open_dataset(tmp_path / "b.ome.zarr") as dataset:
        assert dataset.channels == ["One", "Both:Camera", "Both:Second"]
    assert recover(tmp_path / "a.ome.tiff").complete
