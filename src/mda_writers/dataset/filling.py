"""An image that fills: which of its places hold a frame so far, and which line tells of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.dataset.sources import LEFT_OUT, MISSING
from mda_writers.recording.runs import BY_PLACE

if TYPE_CHECKING:
    from mda_writers.model.layout import ImageLayout


class PlaceError(ValueError):
    """A frame is said to be where none can be; `row` counts it among those that were given."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row = row


class FillingImage:
    """The places of one image, as a journal tells them.

    Parameters
    ----------
    image : ImageLayout
        As it was laid out; one that grows has room for what has come.
    """

    def __init__(self, image: ImageLayout) -> None:
        self._image = image
        self._extent = (0,) * len(image.sizes) if image.growing else tuple(image.sizes.values())
        self._slots = np.full(self._extent, MISSING, np.int64)
        self._line_at = np.full(self._extent, MISSING, np.int64)
        self._told: np.ndarray | None = None

    @property
    def layout(self) -> ImageLayout:
        """The image, with the sizes that it has by now."""
        if not self._image.growing:
            return self._image
        return replace(self._image, sizes=dict(zip(self._image.sizes, self._extent, strict=True)))

    def describe(self, image: ImageLayout) -> None:
        """Take in what else became known of the image, as a channel's name."""
        self._image = image

    @property
    def slots(self) -> np.ndarray:
        """The slot of every place, as in `FrameSource`."""
        if not self._image.growing:
            return self._slots  # a copy of a million for each new frame would cost 10 ms
        if self._told is None:
            slots = self._slots[tuple(map(slice, self._extent))]
            places = np.arange(slots.size).reshape(slots.shape)
            self._told = np.where(slots == BY_PLACE, places, slots)
        return self._told

    def line_at(self, place: tuple[int, ...]) -> int:
        """Return where in the journal the line of a frame begins."""
        return int(self._line_at[place])

    def take(self, places: np.ndarray, slots: np.ndarray, lines: np.ndarray) -> None:
        """Note frames.

        Parameters
        ----------
        places : array
            A row a frame, a column an axis; further columns are negative.
        slots, lines : array
            Where each lies in its file, and where its line begins in the journal.

        Raises
        ------
        PlaceError
            If a place lies outside of the image, or is named twice.
        """
        if self._image.growing:
            self._make_room(places)
        flat = self._flat(places)
        twice = ~np.isin(self._slots.reshape(-1)[flat], (MISSING, LEFT_OUT))
        twice[_repeated(flat)] = True
        if twice.any():
            raise PlaceError(int(twice.argmax()), "names a place that another line has named")
        # where a growing image has a place is known when it is asked for
        fixed = slots if self._image.growing else np.where(slots == BY_PLACE, flat, slots)
        self._slots.reshape(-1)[flat] = fixed
        self._line_at.reshape(-1)[flat] = lines
        self._told = None

    def leave_out(self, places: np.ndarray) -> None:
        """Note frames that came and were not to be kept; an image that grows has no gaps.

        Raises
        ------
        PlaceError
            If a place lies outside of the image.
        """
        if self._image.growing:
            return
        flat = self._flat(places)
        slots = self._slots.reshape(-1)
        slots[flat[slots[flat] == MISSING]] = LEFT_OUT
        self._told = None

    # ------------------------------------------------------------ helpers

    def _flat(self, places: np.ndarray) -> np.ndarray:
        """Return the number of each place, counted in the order of the axes."""
        shape = self._slots.shape
        within, beyond = np.split(places, [len(shape)], axis=1)
        outside = ((within < 0) | (within >= shape)).any(axis=1) | (beyond >= 0).any(axis=1)
        if outside.any():
            raise PlaceError(int(outside.argmax()), "names a place outside of its image")
        if not shape:
            return np.zeros(len(places), np.int64)
        return np.asarray(np.ravel_multi_index(tuple(within.T), shape))

    def _make_room(self, places: np.ndarray) -> None:
        """Let an image that grows have `places`, with room to spare."""
        needed = places[:, : len(self._extent)].max(axis=0, initial=-1) + 1
        self._extent = tuple(map(int, np.maximum(self._extent, needed)))
        shape = self._slots.shape
        if (needed <= shape).all():
            return
        roomy = [n if i <= n else max(int(i), 2 * n) for i, n in zip(needed, shape, strict=True)]
        self._slots, self._line_at = (
            _enlarged(array, roomy) for array in (self._slots, self._line_at)
        )


def _enlarged(array: np.ndarray, shape: list[int]) -> np.ndarray:
    room = np.full(shape, MISSING, np.int64)
    room[tuple(map(slice, array.shape))] = array
    return room


def _repeated(flat: np.ndarray) -> np.ndarray:
    """Return which entries were there before; frames mostly come in the order of their places."""
    if (np.diff(flat) > 0).all():
        return np.zeros(0, np.int64)
    first = np.unique(flat, return_index=True)[1]
    return np.setdiff1d(np.arange(len(flat)), first)
