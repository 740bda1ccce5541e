"""The disk guard: sees to it that the disk is not filled to the last byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mda_writers.errors import DiskFullError
from mda_writers.storage.disk_space import free_bytes, human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METADATA_BYTES = 2_000
"""What a frame's line in the journal and its entry in the sidecar are reckoned at, together."""

LOOK_BYTES = 256 << 20
"""Bytes after which the disk is looked at again in any case: others write to it too."""


class DiskGuard:
    """Ends a recording while there is still room for its metadata, and for other people.

    Where the room for the pixels is `claimed` already, only metadata needs more.
    ``bytes_under_way()`` is the room that frames handed over before may still take.
    """

    def __init__(
        self,
        folder: Path,
        min_free_bytes: int,
        claimed: bool,
        bytes_under_way: Callable[[], int],
    ) -> None:
        self._folder = folder
        self._min_free = min_free_bytes
        self._claimed = claimed
        self._bytes_under_way = bytes_under_way
        self._budget = 0

    @staticmethod
    def check(folder: Path, pixel_bytes: int, frames: int, min_free_bytes: int) -> None:
        """Compare what a plan needs with what is free.

        Raises
        ------
        DiskFullError
            If it does not fit.
        """
        needed = pixel_bytes + frames * METADATA_BYTES
        free = free_bytes(folder)
        if free - needed < min_free_bytes:
            raise DiskFullError(
                f"{folder}: {human_bytes(free)} free, {human_bytes(needed)} needed for {frames} "
                f"frames, and {human_bytes(min_free_bytes)} are to stay free (min_free_bytes). "
                "Nothing was acquired; free some space, record to another disk, or lower "
                "min_free_bytes."
            )

    def account(self, number: int, pixel_bytes: int) -> None:
        """Count what frame `number` takes; look at the disk when the last look is used up.

        Raises
        ------
        DiskFullError
            If too little would be left.
        """
        nbytes = METADATA_BYTES if self._claimed else METADATA_BYTES + pixel_bytes
        self._budget -= nbytes
        if self._budget < 0:
            self._look(nbytes, number)

    def _look(self, nbytes: int, number: int) -> None:
        free = free_bytes(self._folder)
        left = free - self._min_free - nbytes - self._bytes_under_way()
        if left < 0:
            raise DiskFullError(
                f"{self._folder}: {human_bytes(free)} free, and {human_bytes(self._min_free)} are "
                f"to stay free (min_free_bytes): frame {number} was not written. The "
                f"{number} frames before it are kept; free some space or lower "
                "min_free_bytes."
            )
        # what staged writes have not yet used is looked at in quarters of what is left
        self._budget = min(left // 4, LOOK_BYTES)
