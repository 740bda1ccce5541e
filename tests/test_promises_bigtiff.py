"""Every promise, kept by BigTIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mda_writers import BigTiffWriter, DiskFullError, OMEZarrWriter
from promises.crash import CrashPromises, files_in
from promises.disk import FullDiskPromises, SlowDiskPromises
from promises.failure import FailurePromises
from promises.kind import BigTiff
from promises.lifecycle import LifecyclePromises, ThreadPromises
from promises.truth import TruthPromises
from promises.verifying import VerifyPromises

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(BigTiff, CrashPromises):
    """A killed process."""


class TestFullDisk(BigTiff, FullDiskPromises):
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


class TestSlowDisk(BigTiff, SlowDiskPromises):
    """A disk that does not keep up."""


class TestFailure(BigTiff, FailurePromises):
    """A writer that fails."""


class TestLifecycle(BigTiff, LifecyclePromises):
    """Many runs, and ends of all kinds."""


class TestThreads(BigTiff, ThreadPromises):
    """Frames from several threads."""


class TestTruth(BigTiff, TruthPromises):
    """What the report says."""


class TestVerify(BigTiff, VerifyPromises):
    """Reading back against the checksums."""
