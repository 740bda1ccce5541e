"""BigTiffWriter as users meet it: its ways of use, its metadata, its answers to bad input."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import useq

from engine import StampedEngine
from mda_writers import BigTiffWriter, CustomWriter, WriteError, record
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

SEQUENCE = useq.MDASequence(
    axis_order="tpcz",
    stage_positions=[useq.Position(x=1, y=2, z=3, name="A/1"), useq.Position(x=4, y=5, z=6)],
    channels=["DAPI", "FITC"],
    z_plan=useq.ZRangeAround(range=2, step=1),
    time_plan=useq.TIntervalLoops(interval=0, loops=2),
)


def read_position(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        assert series.axes == "TCZYX"
        return np.asarray(series.asarray())


def assert_stamped(folder: Path, stem: str, suffix: str = ".ome.tif") -> None:
    """Assert that both positions of SEQUENCE read back as stamped."""
    for p, key in enumerate(("A-1", "p1")):
        data = read_position(folder / f"{stem}_{key}{suffix}")
        assert data.shape[:3] == (2, 2, 3)
        for t, c, z in np.ndindex(2, 2, 3):
            check_stamp(data[t, c, z], {"t": t, "p": p, "c": c, "z": z})


@pytest.fixture
def stamped(core: CMMCorePlus) -> CMMCorePlus:
    core.mda.set_engine(StampedEngine(core))
    return core


# ---------------------------------------------------------------- ways of use


def test_run_mda_with_one_output(stamped: CMMCorePlus, tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    stamped.run_mda(SEQUENCE, output=writer, block=True)
    assert writer.result().complete
    assert_stamped(tmp_path, "x")


def test_run_mda_with_two_outputs(stamped: CMMCorePlus, tmp_path: Path) -> None:
    writers = [BigTiffWriter(tmp_path / name) for name in ("a.ome.tif", "b.ome.tiff")]
    stamped.run_mda(SEQUENCE, output=writers, block=True)
    assert all(writer.result().complete for writer in writers)
    assert_stamped(tmp_path, "a")
    assert_stamped(tmp_path, "b", ".ome.tiff")


def test_a_connected_writer_is_done_when_its_block_ends(
    stamped: CMMCorePlus, tmp_path: Path
) -> None:
    with BigTiffWriter(tmp_path / "x.ome.tif").connected(stamped) as writer:
        stamped.run_mda(SEQUENCE, block=False)
        while not writer.frames_received:
            pass
    assert writer.result().frames_written == 24
    assert_stamped(tmp_path, "x")


def test_a_with_block_waits_for_a_run_that_was_only_just_started(
    stamped: CMMCorePlus, tmp_path: Path
) -> None:
    with BigTiffWriter(tmp_path / "x.ome.tif") as writer:
        stamped.run_mda(SEQUENCE, output=writer)
    assert writer.result().complete
    assert_stamped(tmp_path, "x")


def test_a_result_waits_while_the_microscope_is_tidied_up(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    class Tidy(StampedEngine):
        def teardown_sequence(self, sequence: Any) -> None:
            time.sleep(0.7)
            super().teardown_sequence(sequence)

    core.mda.set_engine(Tidy(core))
    with BigTiffWriter(tmp_path / "x.ome.tif").connected(core) as writer:
        core.run_mda(SEQUENCE)
    assert writer.result().complete
    core.run_mda(SEQUENCE, output=writer)
    while writer.result().path.endswith("x.ome.tif"):
        time.sleep(0.01)
    assert writer.result().complete


def test_record_returns_a_report_for_each_writer(stamped: CMMCorePlus, tmp_path: Path) -> None:
    writers = [BigTiffWriter(tmp_path / name) for name in ("a.ome.tif", "b.ome.tif")]
    reports = record(stamped, SEQUENCE, writers, progress=True)
    assert [report.frames_written for report in reports] == [24, 24]
    assert all(report.complete for report in reports)
    assert_stamped(tmp_path, "b")


def test_the_demo_camera_reads_back_pixel_for_pixel(core: CMMCorePlus, tmp_path: Path) -> None:
    frames: list[np.ndarray] = []
    core.mda.events.frameReady.connect(lambda frame, event, meta: frames.append(frame))
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    record(core, useq.MDASequence(channels=["DAPI", "FITC"], z_plan=SEQUENCE.z_plan), writer)
    data = tifffile.imread(tmp_path / "x.ome.tif")
    np.testing.assert_array_equal(data.reshape(6, 512, 512), frames)


def test_direct_mode_takes_frames_of_a_camera_that_reuses_its_buffer(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(32, 24)
    buffer = np.empty((24, 32), np.uint8)
    for t in range(300):
        buffer[:] = stamp({"t": t}, buffer.shape, buffer.dtype)
        writer.add_frame(buffer, timestamp_s=t / 10)
    report = writer.finish({"operator": "Ada"})
    assert report.complete
    assert report.frames_written == 300
    for t, frame in enumerate(tifffile.imread(tmp_path / "x.ome.tif")):
        check_stamp(frame, {"t": t})
    about = json.loads((tmp_path / "x.ome.tif_recording.json").read_text())
    assert about["extra_metadata"] == {"operator": "Ada"}


def test_direct_mode_keeps_colour_and_the_order_of_given_sizes(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(24, 20, True, dtype="uint8", sizes={"t": 2, "c": 2}, channels=["a", "b"])
    for t, c in np.ndindex(2, 2):
        writer.add_frame(stamp({"t": t, "c": c}, (20, 24, 3), "uint8"))
    writer.finish()
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tif:
        assert tif.series[0].axes == "TCYXS"
        data = tif.series[0].asarray()
    for t, c in np.ndindex(2, 2):
        check_stamp(data[t, c], {"t": t, "c": c})


def test_isel_tells_the_truth_while_the_run_goes_on(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(32, 32, sizes={"t": 5})
    for t in range(3):
        writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
        check_stamp(writer.isel(t=t), {"t": t})
    assert writer.isel(t=slice(3, 5)).max() == 0
    assert writer.isel(t=slice(0, 3), y=slice(0, 5), x=7).shape == (3, 5)
    assert writer.position_arrays["p0"].shape == (5, 32, 32)
    assert not writer.finish().complete
    check_stamp(writer.isel(t=2), {"t": 2})


def test_a_second_run_gets_the_next_free_name(stamped: CMMCorePlus, tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    for _ in range(3):
        stamped.run_mda(SEQUENCE, output=writer, block=True)
        writer.result()
    for stem in ("x", "x_1", "x_2"):
        assert_stamped(tmp_path, stem)


def test_overwrite_replaces_the_recording_and_nothing_else(
    stamped: CMMCorePlus, tmp_path: Path
) -> None:
    record(stamped, SEQUENCE, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    (tmp_path / "x_notes.txt").write_text("keep me")
    writer = BigTiffWriter(tmp_path / "x.ome.tif", overwrite=True)
    record(stamped, useq.MDASequence(channels=["DAPI"]), writer, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x.ome.tif",
        "x.ome.tif_frame_metadata.json",
        "x.ome.tif_recording.json",
        "x_notes.txt",
    ]


# ---------------------------------------------------------------- upstream's own class


def test_writers_are_instances_of_upstreams_writer() -> None:
    with pytest.warns(FutureWarning):
        sys.modules.pop("pymmcore_plus.mda.handlers", None)
        from pymmcore_plus.mda.handlers import OMETiffWriter
    assert any(c.__name__ == OMETiffWriter.__name__ for c in BigTiffWriter.__mro__)
    assert CustomWriter is BigTiffWriter


def test_importing_the_package_is_silent() -> None:
    code = "import mda_writers; mda_writers.BigTiffWriter"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")


def test_a_subclass_that_overrides_upstreams_seams_is_used(
    stamped: CMMCorePlus, tmp_path: Path
) -> None:
    calls: list[str] = []

    class Mine(BigTiffWriter):
        def new_array(self, position_key: str, dtype: Any, sizes: dict[str, int]) -> Any:
            calls.append(f"new {position_key} {dtype} {sizes}")
            return super().new_array(position_key, dtype, sizes)

        def write_frame(self, ary: Any, index: tuple[int, ...], frame: np.ndarray) -> None:
            calls.append(f"write {index}")
            super().write_frame(ary, index, frame)

        def finalize_metadata(self) -> None:
            calls.append(f"finalize {sum(map(len, self.frame_metadatas.values()))}")
            super().finalize_metadata()

    record(stamped, useq.MDASequence(channels=["DAPI", "FITC"]), Mine(tmp_path / "x.ome.tif"))
    assert calls == [
        "new p0 uint16 {'c': 2, 'y': 32, 'x': 32}",
        "write (0,)",
        "write (1,)",
        "finalize 2",
    ]


def test_an_array_of_the_users_own_is_filled(stamped: CMMCorePlus, tmp_path: Path) -> None:
    class InMemory(BigTiffWriter):
        def new_array(self, position_key: str, dtype: Any, sizes: dict[str, int]) -> Any:
            return np.zeros(tuple(sizes.values()), dtype)

    writer = InMemory(tmp_path / "x.ome.tif")
    record(stamped, SEQUENCE, writer, progress=False)
    check_stamp(writer.isel(p=1, t=1, c=1, z=2), {"t": 1, "p": 1, "c": 1, "z": 2})
    assert writer.result().complete
    assert not (tmp_path / "x_p1.ome.tif").exists()


# ---------------------------------------------------------------- metadata


def test_the_sidecar_has_the_fields_of_upstream_by_position(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    metas: list[dict[str, Any]] = []
    core.mda.events.frameReady.connect(lambda frame, event, meta: metas.append(meta))
    record(core, SEQUENCE, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    sidecar = json.loads((tmp_path / "x.ome.tif_frame_metadata.json").read_text())
    assert list(sidecar) == ["A-1", "p1"]
    for frame in sidecar["A-1"]:
        assert set(frame) == {*metas[0], "mda_writers"}
        assert "sequence" not in frame["mda_event"]
        assert frame["mda_event"]["pos_name"] == "A/1"
        assert frame["position"]["x"] == pytest.approx(1, abs=0.01)  # a step of the demo stage


def test_metadata_of_any_kind_is_written(tmp_path: Path) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    metadata = {
        "scalar": np.float32(1.5),
        "array": np.arange(3),
        "path": Path("a") / "b",
        "date": datetime(2026, 1, 2, tzinfo=UTC),
        "set": {1},
        "bytes": b"\xff\x00",
        "huge": 10**30,
        "nan": float("nan"),
        "object": object(),
        "surrogate": "\ud800",
        3: "a key that is no text",
        "cycle": cycle,
    }
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16)
    writer.add_frame(np.zeros((16, 16), np.uint8), metadata=metadata)
    writer.add_frame(np.zeros((16, 16), np.uint8), metadata={"scalar": np.float32(1.5)})
    writer.finish()
    first, second = json.loads((tmp_path / "x.ome.tif_frame_metadata.json").read_text())["p0"]
    assert first["scalar"] == second["scalar"] == 1.5
    assert first["array"] == [0, 1, 2]
    assert first["date"].startswith("2026-01-02T00:00:00")
    assert first["3"] == "a key that is no text"
    assert int(first["huge"]) == 10**30


def test_a_frames_metadata_does_not_grow_with_the_positions(
    stamped: CMMCorePlus, tmp_path: Path
) -> None:
    positions = [useq.Position(x=n, y=n, z=0, name=f"site {n}") for n in range(1000)]
    sequence = useq.MDASequence(stage_positions=positions, channels=["DAPI"])
    record(stamped, sequence, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    path = tmp_path / "x.ome.tif_frame_metadata.json"
    assert len(json.loads(path.read_text())) == 1000
    assert path.stat().st_size / 1000 < 2000


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", ["x.png", "x.ome.zarr", "x", "x.tiff.txt"])
def test_a_wrong_suffix_is_refused_with_the_right_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.ome\.tiff"):
        BigTiffWriter(tmp_path / name)


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "a" / "b" / "x.tif")
    writer.begin(16, 16)
    writer.add_frame(np.ones((16, 16), np.uint8))
    assert writer.finish().complete


def test_a_parent_that_is_a_file_is_an_error_before_the_first_exposure(
    stamped: CMMCorePlus, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    writer = BigTiffWriter(tmp_path / "file" / "x.ome.tif")
    with pytest.raises(WriteError, match="file"):
        record(stamped, SEQUENCE, writer, progress=False)
    assert writer.frames_received == 0


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="root and Windows may write everywhere"
)
def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IREAD | stat.S_IEXEC)
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    with pytest.raises(WriteError, match="permission"):
        writer.begin(16, 16, dtype="uint8", sizes={"t": 1})


@pytest.mark.parametrize(
    "left_over", ["x.ome.tif", "x.ome.tif_frame_metadata.json", "x.ome.tif_frames.jsonl"]
)
def test_an_existing_recording_is_refused(left_over: str, tmp_path: Path) -> None:
    (tmp_path / left_over).write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        BigTiffWriter(tmp_path / "x.ome.tif")
    assert (tmp_path / left_over).read_text() == "precious"


def test_a_file_that_appears_after_the_constructor_is_not_touched(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    (tmp_path / "x.ome.tif").write_text("precious")
    writer.begin(16, 16)
    writer.add_frame(np.zeros((16, 16), np.uint8))
    assert writer.finish().path.endswith("x_1.ome.tif")
    assert (tmp_path / "x.ome.tif").read_text() == "precious"


def test_an_empty_sequence_is_an_error(stamped: CMMCorePlus, tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    stamped.run_mda(useq.MDASequence(), output=writer, block=True)
    with pytest.raises(WriteError, match="sequence is empty"):
        writer.result()
    assert not list(tmp_path.iterdir())


def test_a_frame_of_another_shape_ends_the_run_and_keeps_the_earlier_ones(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    class Shrinking(StampedEngine):
        def exec_event(self, event: Any) -> Any:
            for image, sub_event, meta in super().exec_event(event):
                yield (image[:20] if event.index["t"] >= 10 else image), sub_event, meta

    core.mda.set_engine(Shrinking(core))
    sequence = useq.MDASequence(time_plan=useq.TIntervalLoops(interval=0, loops=5000))
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    with pytest.raises(WriteError, match=r"\(20, 32\).*\(32, 32\)"):
        record(core, sequence, writer, progress=False)
    assert writer.frames_received < 5000
    data = tifffile.imread(tmp_path / "x.ome.tif")
    assert len(data) == 10
    for t, frame in enumerate(data):
        check_stamp(frame, {"t": t})


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (np.zeros((16, 17), np.uint8), r"\(16, 17\)"),
        (np.zeros((16, 16), np.uint16), "uint16"),
        (np.zeros((16, 16, 3), np.uint8), r"\(16, 16, 3\)"),
        (np.zeros((16, 16, 2), np.uint8), r"\(16, 16, 2\)"),
    ],
)
def test_direct_mode_refuses_a_frame_that_does_not_fit_and_goes_on(
    frame: np.ndarray, told: str, tmp_path: Path
) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16)
    writer.add_frame(np.zeros((16, 16), np.uint8))
    with pytest.raises(ValueError, match=told):
        writer.add_frame(frame)
    writer.add_frame(np.ones((16, 16), np.uint8))
    assert writer.finish().complete
    assert tifffile.imread(tmp_path / "x.ome.tif").max(axis=(1, 2)).tolist() == [0, 1]


def test_direct_mode_says_what_is_out_of_order(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    with pytest.raises(WriteError, match="begin"):
        writer.add_frame(np.zeros((16, 16)))
    with pytest.raises(WriteError, match="begin"):
        writer.finish()
    writer.begin(16, 16)
    with pytest.raises(WriteError, match="finish"):
        writer.begin(16, 16)
    writer.finish()
    with pytest.raises(WriteError, match="begin"):
        writer.add_frame(np.zeros((16, 16)))


@pytest.mark.parametrize("arguments", [(0, 4), (4, -1), (4, 2.5)])
def test_direct_mode_refuses_impossible_sizes(arguments: Any, tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    with pytest.raises(ValueError, match="whole number"):
        writer.begin(*arguments)


def test_pixels_that_ome_does_not_know_are_refused_before_the_first_frame(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    with pytest.raises(WriteError, match="int64"):
        writer.begin(16, 16, False, dtype="int64", sizes={"t": 2})
    assert not list(tmp_path.iterdir())
