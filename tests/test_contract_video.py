"""Every contract, kept by video."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import orjson
import psutil
import pytest

from contracts.crash import CrashContract
from contracts.disk import (
    DISK_BYTES,
    FRAME,
    FRAME_BYTES,
    FullDiskContract,
    SlowDiskContract,
    loops,
    run_out_of_disk,
)
from contracts.doubles import CountingEngine
from contracts.failure import FailureContract
from contracts.lifecycle import LifecycleContract, ThreadContract
from contracts.truth import TruthContract
from contracts.video_kinds import Avi, Mkv, Mp4
from mda_writers import CV2Writer, DiskFullError, record
from mda_writers.formats.video import reader
from stamps import stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(Mkv, CrashContract):
    """A killed process."""


class TestCrashMp4(Mp4):
    """An MP4 as others write it cannot be read at all when its writer was killed."""

    @pytest.mark.parametrize("mode", ["direct"])
    def test_kill_at_any_moment_keeps_every_journalled_frame(
        self, mode: str, tmp_path: Path
    ) -> None:
        CrashContract.test_kill_at_any_moment_keeps_every_journalled_frame(
            self, mode, True, tmp_path
        )

    check_interrupted = CrashContract.check_interrupted
    test_recover_gives_the_files_of_a_normal_end = (
        CrashContract.test_recover_gives_the_files_of_a_normal_end
    )


class TestCrashAvi(Avi):
    """An AVI's index is written at the end, too."""

    test_kill = TestCrashMp4.test_kill_at_any_moment_keeps_every_journalled_frame
    check_interrupted = CrashContract.check_interrupted


class TestFullDisk(Mkv, FullDiskContract):
    """A disk that fills up.

    How much a video will take is not known beforehand, less or more than its pixels: no room is
    claimed, and no plan refused for its size. What is promised instead is tested here.
    """

    test_plan_larger_than_the_disk_is_refused_before_the_first_exposure = None
    test_room_that_is_taken_while_files_are_laid_out_leaves_nothing_behind = None
    test_plan_that_fits_is_written = None  # noise of 190 frames takes more than its pixels

    def make_writer(self, folder: Path, **options: Any) -> Any:
        # the encoder is slower than the test's camera: what waits must not be the whole recording
        return super().make_writer(folder, **{"queue_bytes": 10 * FRAME_BYTES, **options})

    def test_plan_larger_than_the_disk_is_written_if_its_video_is_small(
        self, core: CMMCorePlus, disk: Path
    ) -> None:
        engine = CountingEngine(core, frame_shape=FRAME, on_frame=lambda n: None)
        core.mda.set_engine(engine)
        writer = CV2Writer(disk / "exp.mp4", scale=0.25)
        (report,) = record(core, loops(300), writer, progress=False)
        assert report.complete
        assert 300 * FRAME_BYTES > DISK_BYTES > (disk / "exp.mp4").stat().st_size

    def test_plan_larger_than_the_disk_ends_where_the_disk_is_full(
        self, core: CMMCorePlus, disk: Path
    ) -> None:
        core.mda.set_engine(CountingEngine(core, frame_shape=FRAME))
        with pytest.raises(DiskFullError):
            record(core, loops(2000), self.make_writer(disk), progress=False)
        assert 100 < len(self.check_frames(disk)) < 300

    @pytest.mark.parametrize(("frames", "form"), [(60, "ordinary"), (130, "fragments")])
    def test_video_with_and_without_room_for_its_copy_is_complete(
        self, frames: int, form: str, core: CMMCorePlus, disk: Path
    ) -> None:
        core.mda.set_engine(CountingEngine(core, frame_shape=FRAME))
        writer = self.make_writer(disk, min_free_bytes=1 << 20)
        (report,) = record(core, loops(frames), writer, progress=False)
        assert report.complete
        assert len(self.check_frames(disk)) == frames
        (video,) = orjson.loads((disk / "exp.mkv_recording.json").read_bytes())["videos"]
        assert (video["form"], video["frames"]) == (form, frames)
        assert psutil.disk_usage(str(disk)).free >= 1 << 20
        assert not list(disk.glob(".*"))

    def test_room_that_goes_while_the_copy_is_made_leaves_the_video_as_it_was(
        self, disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader, "free_bytes", lambda path: DISK_BYTES)
        writer = self.make_writer(disk, min_free_bytes=0)
        writer.begin(*FRAME)
        for t in range(100):
            writer.add_frame(stamp({"t": t}, FRAME, "uint16"))
        assert writer.finish().complete
        assert len(self.check_frames(disk)) == 100
        assert not list(disk.glob(".*"))

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no RLIMIT_FSIZE")
    @pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
    def test_file_size_limit_is_a_full_disk(self, planned: bool, tmp_path: Path) -> None:
        error, written = run_out_of_disk(self, tmp_path, planned)
        assert error == "DiskFullError"
        assert len(self.check_frames(tmp_path)) == written > 0


class TestSlowDisk(Mkv, SlowDiskContract):
    """A disk that does not keep up."""


class TestFailure(Mkv, FailureContract):
    """A writer that fails."""


class TestLifecycle(Mkv, LifecycleContract):
    """Many runs, and ends of all kinds."""


class TestThreads(Mkv, ThreadContract):
    """Frames from several threads."""


class TestTruth(Mkv, TruthContract):
    """What the report says."""
