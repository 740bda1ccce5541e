"""Every promise, kept by video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from promises.crash import CrashPromises
from promises.disk import FRAME_BYTES, FullDiskPromises, SlowDiskPromises
from promises.failure import FailurePromises
from promises.lifecycle import LifecyclePromises, ThreadPromises
from promises.truth import TruthPromises
from promises.video_kinds import Avi, Mkv, Mp4

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(Mkv, CrashPromises):
    """A killed process."""


class TestCrashMp4(Mp4):
    """An MP4 as others write it cannot be read at all when its writer was killed."""

    @pytest.mark.parametrize("mode", ["direct"])
    def test_kill_at_any_moment_keeps_every_journalled_frame(
        self, mode: str, tmp_path: Path
    ) -> None:
        CrashPromises.test_kill_at_any_moment_keeps_every_journalled_frame(
            self, mode, True, tmp_path
        )

    check_interrupted = CrashPromises.check_interrupted
    test_recover_gives_the_files_of_a_normal_end = (
        CrashPromises.test_recover_gives_the_files_of_a_normal_end
    )


class TestCrashAvi(Avi):
    """An AVI's index is written at the end, too."""

    test_kill = TestCrashMp4.test_kill_at_any_moment_keeps_every_journalled_frame
    check_interrupted = CrashPromises.check_interrupted


class TestFullDisk(Mkv, FullDiskPromises):
    """A disk that fills up.

    How much a video will take is not known beforehand: no room is claimed, and no plan refused.
    """

    test_plan_larger_than_the_disk_is_refused_before_the_first_exposure = None
    test_room_that_is_taken_while_files_are_laid_out_leaves_nothing_behind = None
    test_plan_that_fits_is_written = None
    test_file_size_limit_is_a_full_disk = None

    def make_writer(self, folder: Path, **options: Any) -> Any:
        # the encoder is slower than the test's camera: what waits must not be the whole recording
        return super().make_writer(folder, **{"queue_bytes": 10 * FRAME_BYTES, **options})


class TestSlowDisk(Mkv, SlowDiskPromises):
    """A disk that does not keep up."""


class TestFailure(Mkv, FailurePromises):
    """A writer that fails."""


class TestLifecycle(Mkv, LifecyclePromises):
    """Many runs, and ends of all kinds."""


class TestThreads(Mkv, ThreadPromises):
    """Frames from several threads."""


class TestTruth(Mkv, TruthPromises):
    """What the report says."""
