"""What goes wrong in a session harms nobody else, is in the manifest, and is raised at the end."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import useq
from pymmcore_plus import CMMCorePlus

from conftest import MM_CONFIGS, let_go
from contracts.doubles import DoubleError, failing, failing_to_begin
from engine import EngineError, StampedEngine
from mda_writers import Acquisition, BigTiffWriter, TiffSeriesWriter, WriteError
from mda_writers.errors import FrameError
from sessions import NAMES, files_named, film, in_thread, loops, producer, read

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_session_is_complete_only_if_every_recording_is(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, skip={1}))
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        film(acq, "eye", 3)
        acq.record(core, loops(3), progress=False)
    manifest = read(acq)
    assert (manifest["status"], manifest["complete"]) == ("finished", False)
    assert producer(manifest, "eye")["complete"]
    (meso,) = producer(manifest, "meso")["recordings"]
    assert (meso["status"], meso["frames_expected"], meso["frames_written"]) == ("incomplete", 3, 2)
    assert meso["frames_skipped"] == 1


def test_device_that_recorded_nothing_is_not_complete(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("eye", ".ome.tiff", direct=True)
    assert (read(acq)["status"], read(acq)["complete"]) == ("finished", False)


def test_cancel_leaves_a_manifest_that_says_so(core: CMMCorePlus, tmp_path: Path) -> None:
    def cancel(number: int) -> None:
        if number == 3:
            core.mda.cancel()

    core.mda.set_engine(StampedEngine(core, on_frame=cancel))
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        acq.record(core, loops(50), progress=False)
    manifest = read(acq)
    assert (manifest["status"], manifest["complete"]) == ("canceled", False)
    (meso,) = producer(manifest, "meso")["recordings"]
    assert meso["status"] == "canceled"
    assert 0 < meso["frames_written"] < 50


@pytest.mark.parametrize("broken", [failing(BigTiffWriter, 2), failing_to_begin(BigTiffWriter)])
def test_failing_microscope_does_not_stop_the_camera(
    broken: type[BigTiffWriter], core: CMMCorePlus, tmp_path: Path
) -> None:
    failed = threading.Event()

    def wait_for_failure(number: int) -> None:
        if number == 5:
            assert failed.wait(20)

    with pytest.raises(WriteError, match="told to fail"), Acquisition(tmp_path, **NAMES) as acq:
        camera = in_thread(acq, "eye", 20, wait_for_failure)
        acq.writer("meso", ".ome.tiff", writer_class=broken)
        (report,) = acq.record(core, loops(10), progress=False)
        failed.set()
        assert "told to fail" in report.error and not report.complete
        camera.join()
        acq.note("still here")
    manifest = read(acq)
    assert (manifest["status"], manifest["complete"]) == ("failed", False)
    assert "told to fail" in manifest["errors"][0]
    assert not producer(manifest, "meso")["complete"]
    assert producer(manifest, "eye")["complete"]
    assert producer(manifest, "eye")["recordings"][0]["frames_written"] == 20
    assert Acquisition.open(acq.folder).notes[-1]["note"] == "still here"


def test_everything_that_went_wrong_is_raised_together(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, fail_at=4))
    with pytest.raises(ExceptionGroup) as caught, Acquisition(tmp_path, **NAMES) as acq:
        good = in_thread(acq, "body", 10)
        bad = in_thread(acq, "eye", 10, writer_class=failing(BigTiffWriter, 3))
        acq.writer("meso", ".ome.tiff")
        acq.record(core, loops(10), progress=False)
        for camera in (good, bad):
            camera.join()
        raise RuntimeError("the body of the block failed, too")
    kinds = {str(type(error.__cause__ or error).__name__) for error in caught.value.exceptions}
    assert kinds == {EngineError.__name__, DoubleError.__name__, "RuntimeError"}
    manifest = read(acq)
    assert manifest["status"] == "failed"
    assert len(manifest["errors"]) == len(caught.value.exceptions) == 3
    assert producer(manifest, "body")["complete"]
    assert producer(manifest, "meso")["recordings"][0]["frames_written"] == 4
    assert producer(manifest, "eye")["recordings"][0]["status"] == "failed"


def test_error_of_a_cameras_thread_is_heard_of(tmp_path: Path) -> None:
    def unplug(number: int) -> None:
        if number == 4:
            raise OSError("the camera was unplugged")

    with (
        pytest.raises(OSError, match="unplugged") as caught,
        Acquisition(tmp_path, **NAMES) as acq,
    ):
        in_thread(acq, "eye", 10, unplug).join()
    assert caught.value is acq.errors[0]
    manifest = read(acq)
    assert manifest["status"] == "failed"
    assert producer(manifest, "eye")["recordings"][0]["frames_written"] == 4


def test_error_of_the_block_itself_comes_out_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught, Acquisition(tmp_path, **NAMES) as acq:
        film(acq, "eye", 3)
        1 / 0  # noqa: B018 - it is meant to raise
    assert caught.value.__context__ is None
    manifest = read(acq)
    assert (manifest["status"], manifest["errors"]) == (
        "failed",
        ["ZeroDivisionError: division by zero"],
    )
    assert producer(manifest, "eye")["complete"]


def test_leaving_the_block_early_cancels_a_run_on_another_thread(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    running = threading.Event()
    core.mda.set_engine(StampedEngine(core, on_frame=lambda n: n < 3 or running.set()))
    sequence = useq.MDASequence(time_plan={"interval": 0.01, "loops": 5000})
    with pytest.raises(ZeroDivisionError), Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        run = threading.Thread(target=acq.record, args=(core, sequence), kwargs={"progress": False})
        run.start()
        assert running.wait(20)
        1 / 0  # noqa: B018
    run.join()
    (meso,) = producer(read(acq), "meso")["recordings"]
    assert meso["status"] == "canceled"
    assert 3 <= meso["frames_written"] < 5000


def test_end_of_the_block_waits_for_a_run_on_another_thread(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    sequence = useq.MDASequence(time_plan={"interval": 0.01, "loops": 30})
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        run = threading.Thread(target=acq.record, args=(core, sequence), kwargs={"progress": False})
        run.start()
        while core.mda.is_running() is False and run.is_alive():
            pass
    run.join()
    assert read(acq)["complete"]
    assert producer(read(acq), "meso")["recordings"][0]["frames_written"] == 30


def test_recording_left_open_is_ended_with_the_session(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        writer = acq.writer("eye", ".ome.tiff", direct=True)
        writer.begin(4, 4)
        writer.add_frame(np.ones((4, 4), np.uint8))
    with pytest.raises(WriteError, match="no recording is open"):
        writer.add_frame(np.ones((4, 4), np.uint8))
    assert read(acq)["complete"]
    assert producer(read(acq), "eye")["recordings"][0]["frames_written"] == 1


def test_refused_frame_leaves_the_rest(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        writer = acq.writer("eye", ".ome.tiff", direct=True)
        writer.begin(4, 4)
        writer.add_frame(np.ones((4, 4), np.uint8))
        with pytest.raises(FrameError):
            writer.add_frame(np.ones((4, 5), np.uint8))
        writer.finish()
    assert read(acq)["complete"]


def test_handler_output_is_part_of_the_session(core: CMMCorePlus, tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        writer = acq.writer("meso", ".ome.tiff", core=core)
        acq.save_configuration(core, loops(3))
        core.run_mda(loops(3), output=writer, block=True)
    assert read(acq)["complete"]
    assert producer(read(acq), "meso")["recordings"][0]["frames_written"] == 3


# ------------------------------------------------------------ wrong use


def test_camera_with_its_own_loop_is_never_fed_by_the_microscope(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        with pytest.raises(ValueError, match="no writer"):
            acq.record(core, loops(2), progress=False)
        eye = acq.writer("eye", ".ome.tiff")  # direct=True was forgotten
        eye.begin(4, 4)
        with pytest.raises(ValueError, match="eye is recording already"):
            acq.record(core, loops(2), progress=False)
        meso = acq.writer("meso", ".ome.tiff")
        (report,) = acq.record(core, loops(2), meso, progress=False)
        assert report.complete
        eye.add_frame(np.ones((4, 4), np.uint8))
        assert eye.finish().complete


def test_two_microscopes_record_at_once_and_never_share_a_writer(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    other = CMMCorePlus()
    other.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
    running, go_on = threading.Event(), threading.Event()
    core.mda.set_engine(StampedEngine(core, on_frame=lambda n: running.set() or go_on.wait(20)))
    other.mda.set_engine(StampedEngine(other))
    with Acquisition(tmp_path, **NAMES) as acq:
        left, right = (acq.writer(device, ".ome.tiff") for device in ("left", "right"))
        run = threading.Thread(
            target=acq.record, args=(core, loops(5), left), kwargs={"progress": False}
        )
        run.start()
        assert running.wait(20)
        with pytest.raises(ValueError, match="left is recording already"):
            acq.record(other, loops(5), progress=False)
        (report,) = acq.record(other, loops(4), right, progress=False)
        go_on.set()
        run.join()
    let_go(other)
    assert report.complete and report.frames_written == 4
    assert read(acq)["complete"]
    assert producer(read(acq), "left")["recordings"][0]["frames_written"] == 5


def test_writer_of_elsewhere_is_refused(core: CMMCorePlus, tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq, pytest.raises(ValueError, match=r"acq\.writer"):
        acq.record(core, loops(1), BigTiffWriter(tmp_path / "a.tif"), progress=False)


def test_closed_session_takes_nothing_more(core: CMMCorePlus, tmp_path: Path) -> None:
    acq = Acquisition(tmp_path, **NAMES)
    acq.log("wheel", 1)
    acq.close()
    acq.close()
    for act in (
        lambda: acq.note("late"),
        lambda: acq.writer("eye", ".ome.tiff"),
        lambda: acq.log("wheel", 2),
        lambda: acq.log("another", 2),
        lambda: acq.record(core, loops(1)),
    ):
        with pytest.raises(WriteError, match="the session is closed"):
            act()


def test_unknown_suffix_and_empty_names_say_what_to_do(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq, pytest.raises(ValueError, match=r"\.ome\.zarr"):
        acq.writer("eye", ".gif")
    with pytest.raises(ValueError, match="task is empty"):
        Acquisition(tmp_path, subject="M1", session=1, task=" ")


@pytest.mark.parametrize("suffix", [".ome.tiff", ".ome.tif", ".tif", ".ome.zarr", ".zarr", ".mkv"])
def test_suffix_decides_the_writer(suffix: str, tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        writer = acq.writer("eye", suffix, direct=True)
        writer.begin(32, 32, dtype="uint8", is_color=False)
        for t in range(3):
            writer.add_frame(np.full((32, 32), 80 * t, np.uint8))
        assert writer.finish().complete
    session = Acquisition.open(acq.folder)
    assert session.complete
    assert all(file["xxh3_128"] and file["size_bytes"] for file in files_named(read(acq)))
    with session.dataset("eye") as eye:
        assert abs(eye.read_image(t=2).astype(int) - 160).max() < 8


def test_series_of_files_is_part_of_the_session(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        writer = acq.writer("eye", "", writer_class=TiffSeriesWriter, direct=True)
        writer.begin(8, 8, dtype="uint8", sizes={"t": 2, "z": 2})
        for number in range(4):
            writer.add_frame(np.full((8, 8), number, np.uint8))
        writer.finish()
    session = Acquisition.open(acq.folder)
    assert session.complete
    with session.dataset("eye") as eye:
        assert (eye.read_image(t=1, z=0) == 2).all()
