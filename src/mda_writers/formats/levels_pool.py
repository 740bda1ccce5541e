"""The pool of an OME-Zarr recording: it knows what the levels made at the end will still take."""

from __future__ import annotations

from mda_writers.storage.ordered_pool import OrderedPool


class LevelsPool(OrderedPool):
    """Counts the bytes of smaller levels that lack, so that the disk is not filled without them."""

    def __init__(self) -> None:
        super().__init__()
        self._owed = 0

    def owe(self, nbytes: int) -> None:
        """Take in that so much will have to be written in the end; less than 0: that it is."""
        self._owed += nbytes

    def bytes_under_way(self) -> int:
        """Return the room of the levels that lack."""
        return max(0, self._owed)
