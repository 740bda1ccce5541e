"""Every contract, kept by BigTIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.crash import CrashContract, files_in
from contracts.disk import FullDiskContract, SlowDiskContract
from contracts.failure import FailureContract
from contracts.kind import BigTiff
from contracts.lifecycle import LifecycleContract, ThreadContract
from contracts.truth import TruthContract
from contracts.verifying import VerifyContract
from mda_writers import BigTiffWriter, DiskFullError, OMEZarrWriter

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(BigTiff, CrashContract):
    """A killed process."""


class TestFullDisk(BigTiff, FullDiskContract):
    """A disk that fills up."""

    def test_projections_and_levels_are_reckoned_with(self, disk: Path) -> None:
        plan = {"is_color": False, "dtype": "uint16", "sizes": {"t": 70, "z": 2}}  # 4.6 MB
        for kind, suffix, more in (
            (BigTiffWriter, ".ome.tiff", {"max_projection": True}),
            (OMEZarrWriter, ".ome.zarr", {"levels": 3}),
        ):
            fits = kind(disk / f"fits{suffix}", min_free_bytes=2_500_000)
            fits.begin(128, 128, **plan)
            fits.finish()
            before = files_in(disk)
            too_much = kind(disk / f"exp{suffix}", min_free_bytes=2_500_000, **more)
            with pytest.raises(DiskFullError, match="are to stay free"):
                too_much.begin(128, 128, **plan)
            assert files_in(disk) == before


class TestSlowDisk(BigTiff, SlowDiskContract):
    """A disk that does not keep up."""


class TestFailure(BigTiff, FailureContract):
    """A writer that fails."""


class TestLifecycle(BigTiff, LifecycleContract):
    """Many runs, and ends of all kinds."""


class TestThreads(BigTiff, ThreadContract):
    """Frames from several threads."""


class TestTruth(BigTiff, TruthContract):
    """What the report says."""


class TestVerify(BigTiff, VerifyContract):
    """Reading back against the checksums."""
