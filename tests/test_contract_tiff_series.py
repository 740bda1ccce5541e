"""The contracts, kept by file series.

What a contract says about one file for all frames of an image is said here about many.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from contracts.crash import CrashContract
from contracts.disk import FRAME, FullDiskContract, loops
from contracts.doubles import CountingEngine
from contracts.failure import FailureContract
from contracts.kind import on_record
from contracts.series_kinds import TiffSeries
from contracts.truth import TruthContract
from contracts.verifying import VerifyContract
from mda_writers import record, verify

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from mda_writers.writers.base import MDAWriter

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(TiffSeries, CrashContract):
    """A killed process."""

    # two of the six ways; how frames are handed over is no matter of the format
    @pytest.mark.parametrize(("mode", "planned"), [("connected", True), ("direct", False)])
    def test_kill_at_any_moment_keeps_every_journalled_frame(
        self, mode: str, planned: bool, tmp_path: Path
    ) -> None:
        super().test_kill_at_any_moment_keeps_every_journalled_frame(mode, planned, tmp_path)


class TestFullDisk(TiffSeries, FullDiskContract):
    """A disk that fills up."""

    def make_writer(self, folder: Path, **options: Any) -> MDAWriter:
        # a file for each frame takes its time: 2000 frames would all wait in the queue
        return super().make_writer(folder, **{"queue_bytes": 1 << 20, **options})

    def test_plan_that_fits_is_written(self, core: CMMCorePlus, disk: Path) -> None:
        # a file takes some kB around its 32 KiB of pixels
        core.mda.set_engine(CountingEngine(core, frame_shape=FRAME))
        (report,) = record(core, loops(150), self.make_writer(disk), progress=False)
        assert report.complete

    @pytest.mark.skip(reason="a file is one frame here, and stays below the limit")
    def test_file_size_limit_is_a_full_disk(self) -> None: ...


class TestFailure(TiffSeries, FailureContract):
    """A writer that fails."""

    @pytest.mark.skip(reason="each run has a new folder; see test_each_run_has_a_new_folder")
    def test_existing_files_of_others_are_not_touched(self) -> None: ...


class TestTruth(TiffSeries, TruthContract):
    """What the report says."""


class TestVerify(TiffSeries, VerifyContract):
    """Reading back against the checksums."""

    def test_missing_file_is_named(self, copy: Path) -> None:
        frame = on_record(copy / self.file_name)[0]
        (copy / frame.ours["file"]).unlink()  # or moved away
        result = verify(copy / self.file_name, progress=False)
        (fault,) = result.faults
        assert (fault.file, fault.number) == (frame.ours["file"], frame.ours["number"])
        assert not result.ok

    @pytest.mark.parametrize("kept", ["all_but_one_byte", "half", "nothing"])
    def test_cut_file_is_named(self, kept: str, copy: Path) -> None:
        frame = on_record(copy / self.file_name)[0]
        file = copy / frame.ours["file"]
        size = file.stat().st_size
        os.truncate(file, {"all_but_one_byte": size - 1, "half": size // 2, "nothing": 0}[kept])
        result = verify(copy / self.file_name, progress=False)
        named = [*result.files_damaged.values(), *(fault.file for fault in result.faults)]
        assert any(file.name in text for text in named)
        assert not result.ok
