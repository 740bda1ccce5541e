"""Every promise, kept by BigTIFF."""

from __future__ import annotations

import pytest

from promises.crash import CrashPromises
from promises.disk import FullDiskPromises, SlowDiskPromises
from promises.failure import FailurePromises
from promises.kind import BigTiff
from promises.lifecycle import LifecyclePromises, ThreadPromises
from promises.truth import TruthPromises
from promises.verifying import VerifyPromises

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(BigTiff, CrashPromises):
    """A killed process."""


class TestFullDisk(BigTiff, FullDiskPromises):
    """A disk that fills up."""


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
