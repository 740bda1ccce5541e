"""Every contract, kept by OME-Zarr in each of its forms."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from contracts.crash import CrashContract
from contracts.disk import FullDiskContract, SlowDiskContract
from contracts.failure import FailureContract
from contracts.lifecycle import LifecycleContract, ThreadContract
from contracts.zarr_kinds import OmeZarr, OmeZarr04, OmeZarrCompressed, OmeZarrInZ

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(OmeZarr, CrashContract):
    """A killed process."""


class _OneModeIsEnough(CrashContract):
    """The ways into the corridor are the same for every form."""

    @pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
    @pytest.mark.parametrize("mode", ["direct"])
    def test_kill_at_any_moment_keeps_every_journalled_frame(
        self, mode: str, planned: bool, tmp_path: Path
    ) -> None:
        super().test_kill_at_any_moment_keeps_every_journalled_frame(mode, planned, tmp_path)


class TestCrashCompressed(OmeZarrCompressed, _OneModeIsEnough):
    """A killed process, while chunks were being compressed."""


class TestCrash04(OmeZarr04, _OneModeIsEnough):
    """A killed process, with a file a chunk."""


class TestCrashInZ(OmeZarrInZ, _OneModeIsEnough):
    """A killed process, with levels that are made of several planes."""


class TestFullDisk(OmeZarr, FullDiskContract):
    """A disk that fills up."""

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no RLIMIT_FSIZE")
    @pytest.mark.parametrize("planned", [True])  # shards of an open recording stay below it
    def test_file_size_limit_is_a_full_disk(self, planned: bool, tmp_path: Path) -> None:
        super().test_file_size_limit_is_a_full_disk(planned, tmp_path)


class TestSlowDisk(OmeZarr, SlowDiskContract):
    """A disk that does not keep up."""


class TestFailure(OmeZarr, FailureContract):
    """A writer that fails."""

    # a recording is one folder: if its name is free, so are those of its images
    test_existing_files_of_others_are_not_touched = None


class TestLifecycle(OmeZarr, LifecycleContract):
    """Many runs, and ends of all kinds."""


class TestThreads(OmeZarr, ThreadContract):
    """Frames from several threads."""
