"""Every promise, kept by BigTIFF."""

from __future__ import annotations

import pytest

from promises.crash import CrashPromises
from promises.disk import FullDiskPromises, SlowDiskPromises
from promises.kind import BigTiff

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestCrash(BigTiff, CrashPromises):
    """A killed process."""


class TestFullDisk(BigTiff, FullDiskPromises):
    """A disk that fills up."""


class TestSlowDisk(BigTiff, SlowDiskPromises):
    """A disk that does not keep up."""
