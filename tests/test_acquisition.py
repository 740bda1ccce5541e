"""A session: several devices at once, and a manifest that tells what they left."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import orjson
import pytest
import tifffile
import useq
import xxhash
from pymmcore_plus import CMMCorePlus

from engine import StampedEngine
from mda_writers import Acquisition
from mda_writers.errors import CorruptRecordingError
from sessions import NAMES, files_named, in_thread, loops, producer, read

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_microscope_and_two_cameras_record_at_once(core: CMMCorePlus, tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES, metadata={"weight_g": np.float32(21.5)}) as acq:
        cameras = [in_thread(acq, "eye", 50), in_thread(acq, "body", 30)]
        acq.writer("meso", ".ome.tiff", data_type="meso")
        acq.note("begun")
        (report,) = acq.record(core, loops(4), progress=False)
        for camera in cameras:
            camera.join()
    assert report.complete

    manifest = read(acq)
    assert (manifest["status"], manifest["complete"], manifest["errors"]) == ("finished", True, [])
    frames = {
        p["device"]: [(r["frames_expected"], r["frames_written"]) for r in p["recordings"]]
        for p in manifest["producers"]
        if p["kind"] == "frames"
    }
    assert frames == {"meso": [(4, 4)], "eye": [(None, 50)], "body": [(None, 30)]}
    assert producer(manifest, "eye clock")["recordings"][0]["rows_written"] == 50
    assert manifest["metadata"] == {"weight_g": 21.5}
    assert producer(manifest, "meso")["recordings"][0]["calibration"]["pixel_size_um"] == 0.5
    assert producer(manifest, "eye")["recordings"][0]["calibration"]["cameras"] == ["eye"]
    for name in ("python", "mda-writers", "pymmcore-plus", "numpy", "tifffile", "mmcore_version"):
        assert manifest["versions"][name]
    assert not {"pytest", "mypy", "selenium"} & manifest["versions"].keys()


def test_manifest_names_every_file_with_its_size_and_hash(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    sequence = useq.MDASequence(stage_positions=[(0, 0), (1, 1)], channels=["FITC"])
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        acq.record(core, sequence, progress=False)
        acq.log("wheel", 1)
    found = files_named(read(acq))
    for file in found:
        content = (acq.folder / file["path"]).read_bytes()
        assert (file["size_bytes"], file["xxh3_128"]) == (
            len(content),
            xxhash.xxh3_128_hexdigest(content),
        )
    on_disk = {p.relative_to(acq.folder).as_posix() for p in acq.folder.rglob("*") if p.is_file()}
    assert {file["path"] for file in found} == on_disk - {"manifest.json"}


def test_no_file_of_a_session_is_of_nobody_whatever_the_format(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    sequence = loops(3).replace(stage_positions=[(0, 0, 0), (5, 5, 0)])
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("tiff", ".ome.tiff", max_projection="t")
        acq.writer("zarr", ".ome.zarr", levels=2)
        acq.writer("film", ".mp4", contrast_limits="full")
        acq.log("wheel", 1.5)
        acq.record(core, sequence, progress=False)
    named = {acq.folder / file["path"] for file in files_named(read(acq))}
    for file in acq.folder.rglob("*"):
        assert file.is_dir() or file == acq.manifest_path or named & {file, *file.parents}, file
    datasets = Acquisition.open(acq.folder).datasets()
    assert {device: len(found) for device, found in datasets.items()} == {
        "tiff": 1,
        "zarr": 1,
        "film": 1,
    }
    for (dataset,) in datasets.values():
        with dataset:
            assert dataset.complete and len(dataset.image_coordinates) == 6


def test_manifest_is_there_before_anything_is_recorded(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        manifest = read(acq)
        assert (manifest["status"], manifest["complete"]) == ("recording", False)
        assert manifest["process"]["pid"] == os.getpid()
        assert all((acq.folder / file["path"]).exists() for file in files_named(manifest))
        writer = acq.writer("eye", ".ome.tiff", direct=True)
        assert producer(read(acq), "eye")["recordings"] == []
        writer.begin(4, 4)
        writer.add_frame(np.zeros((4, 4), np.uint8))
        (going_on,) = producer(read(acq), "eye")["recordings"]
        assert (going_on["status"], going_on["complete"]) == ("recording", False)
        assert all((acq.folder / file["path"]).exists() for file in files_named(read(acq)))
        assert Acquisition.open(acq.folder).status == "recording"
        writer.finish()
        assert producer(read(acq), "eye")["recordings"][0]["status"] == "complete"
    assert read(acq)["complete"]


def test_every_run_of_a_writer_is_a_recording_of_its_own(core: CMMCorePlus, tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        for n in (2, 3):
            acq.record(core, loops(n), progress=False)
    session = Acquisition.open(acq.folder)
    assert [r.frames_written for r in session.recordings("meso")] == [2, 3]
    assert [d.sizes["t"] for d in session.datasets()["meso"]] == [2, 3]
    assert [row["device"] for row in session.timestamps] == ["meso", "meso"]
    assert [c["sequence"]["time_plan"]["loops"] for c in session.configurations] == [2, 3]


def test_timestamps_align_devices_with_their_frames(core: CMMCorePlus, tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        camera = in_thread(acq, "eye", 20)
        acq.record(core, loops(3), progress=False)
        camera.join()
    session = Acquisition.open(acq.folder)
    basis = session.manifest.time_basis
    assert basis.stopped is not None
    for device in ("meso", "eye"):
        (row,) = [row for row in session.timestamps if row["device"] == device]
        sidecar = next(acq.folder.glob(f"func/*_{device}.ome.tiff_frame_metadata.json"))
        frames = [f for p in orjson.loads(sidecar.read_bytes()).values() for f in p]
        for clock in ("unix_time_s", "monotonic_s"):
            times = [f["mda_writers"][clock] for f in frames]
            assert (
                getattr(basis.started, clock)
                <= float(row[f"started_{clock}"])
                <= min(times)
                <= max(times)
                <= float(row[f"stopped_{clock}"])
                <= getattr(basis.stopped, clock)
            )


def test_session_opens_where_it_was_moved_to(core: CMMCorePlus, tmp_path: Path) -> None:
    with Acquisition(tmp_path / "here", **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        core.mda.set_engine(StampedEngine(core))
        acq.record(core, loops(3), progress=False)
        acq.note("µ – two\nlines")
    (tmp_path / "here").rename(tmp_path / "there")
    session = Acquisition.open(tmp_path / "there" / "data" / "sub-M1" / "ses-01")
    assert (session.status, session.complete, session.devices) == ("finished", True, ["meso"])
    assert [row["note"] for row in session.notes] == ["µ – two\nlines"]
    stored = tifffile.imread(next((tmp_path / "there").rglob("*_meso.ome.tiff")))
    for t in range(3):
        assert np.array_equal(session.dataset("meso").read_image(t=t), stored.reshape(3, 32, 32)[t])
    with pytest.raises(KeyError, match="there are meso"):
        session.dataset("eye")
    with pytest.raises(IndexError, match="1 recordings"):
        session.dataset("meso", 1)
    with pytest.raises(KeyError, match="no device"):
        session.log("wheel")


def test_open_says_what_is_not_a_session(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        Acquisition.open(tmp_path)
    with pytest.raises(FileNotFoundError):
        Acquisition.open(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text('{"status": "finished"')
    with pytest.raises(CorruptRecordingError, match="not the manifest of a session"):
        Acquisition.open(tmp_path)
