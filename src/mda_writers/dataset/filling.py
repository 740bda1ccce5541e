"""An image that fills: which of its places hold a frame so far, and which line tells of each."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.dataset.sources import LEFT_OUT, MISSING
from mda_writers.recording.runs import BY_PLACE, FewSlots, is_sparse

if TYPE_CHECKING:
    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.runs import Slots


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
        self._told: Slots | None = None
        # of an image that grew far beyond its frames: place → slot and line
        self._few: dict[tuple[int, ...], tuple[int, int]] | None = None

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
    def slots(self) -> Slots:
        """The slot of every place, as in `FrameSource`."""
        if self._few is not None:
            self._told = self._told or _few_slots(self._extent, self._few)
            return self._told
        if not self._image.growing:
            return self._slots  # a copy of a million for each new frame would cost 10 ms
        if self._told is None:
            slots = self._slots[tuple(map(slice, self._extent))]
            places = np.arange(slots.size).reshape(slots.shape)
            self._told = np.where(slots == BY_PLACE, places, slots)
        return self._told

    def line_at(self, place: tuple[int, ...]) -> int:
        """Return where in the journal the line of a frame begins."""
        return int(self._line_at[place]) if self._few is None else self._few[place][1]

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
        if self._few is not None:
            self._take_few(places, slots, lines)
            return
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

    def _keep_few(self) -> None:
        """Go on with the frames alone: an array of all places would be empty for the most part."""
        there = np.argwhere(self._slots != MISSING)
        at = tuple(there.T)
        kept = zip(self._slots[at].tolist(), self._line_at[at].tolist(), strict=True)
        self._few = dict(zip(map(tuple, there.tolist()), kept, strict=True))
        self._slots = self._line_at = np.zeros((0,) * len(self._extent), np.int64)

    def _take_few(self, places: np.ndarray, slots: np.ndarray, lines: np.ndarray) -> None:
        assert self._few is not None
        count = len(self._extent)
        for row, place in enumerate(places.tolist()):
            key = tuple(place[:count])
            if min(key) < 0 or any(i >= 0 for i in place[count:]):
                raise PlaceError(row, "names a place outside of its image")
            if key in self._few:
                raise PlaceError(row, "names a place that another line has named")
            self._few[key] = (int(slots[row]), int(lines[row]))
        self._told = None

    def _make_room(self, places: np.ndarray) -> None:
        """Let an image that grows have `places`, with room to spare."""
        needed = places[:, : len(self._extent)].max(axis=0, initial=-1) + 1
        self._extent = tuple(map(int, np.maximum(self._extent, needed)))
        shape = self._slots.shape
        if self._few is not None or (needed <= shape).all():
            return
        frames = int((self._slots != MISSING).sum()) + len(places)
        if is_sparse(prod(self._extent), frames):
            self._keep_few()
            return
        roomy = [n if i <= n else max(int(i), 2 * n) for i, n in zip(needed, shape, strict=True)]
        self._slots, self._line_at = (
            _enlarged(array, roomy) for array in (self._slots, self._line_at)
        )


def _few_slots(shape: tuple[int, ...], few: dict[tuple[int, ...], tuple[int, int]]) -> FewSlots:
    places = np.array(list(few), np.int64)
    flat = np.ravel_multi_index(tuple(places.T), shape)
    slots = np.array([slot for slot, _ in few.values()], np.int64)
    order = np.argsort(flat)
    return FewSlots(shape, flat[order], np.where(slots == BY_PLACE, flat, slots)[order])


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
