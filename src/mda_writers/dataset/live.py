"""A recording that is not finished, read from its journal as it grows."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress, zip_longest
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pydantic import ValidationError

from mda_writers.dataset.source import LEFT_OUT, MISSING, Contents
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import AXES, slot_of
from mda_writers.model.slots import BY_PLACE, FewSlots, is_sparse
from mda_writers.recording.files import journal_path
from mda_writers.recording.journal import (
    BRACES_CLOSED,
    FRAME_START,
    SEAL_BYTES,
    Journal,
    is_sealed,
)
from mda_writers.storage.files import FileLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.dataset.source import Frame
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.slots import Slots
    from mda_writers.recording.journal import Lines


HEADER_WAIT_S = 2.0
"""A journal's name is reserved a moment before its first line is written."""

GATHERED = 100_000
"""Lines that are sorted by their images at once: each image costs 30 µs then, however few of its
lines there are."""

_FRAME = b',"frame":'
_PLACE, _OURS = b',"place":[', "mda_writers"
_SLOTS = b',"ifd":', b',"frame":'
_LEFT_OUT = b',"saved":false'
_NO_AXIS = -1


class LiveRecording:
    """Reads a journal as it grows. What has a line there is on disk with all of its pixels.

    A frame whose line is altered is missing.

    Raises
    ------
    FileNotFoundError
        If there is no journal, or no longer.
    CorruptRecordingError
        If it has no whole header, or its lines contradict each other.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(journal_path(path))
        self._images: dict[str, FillingImage] = {}
        self._numbers = ImageNumbers()
        self._left_out: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        self._await_header()
        self.header, self.names = self._journal.header, self._journal.names
        self.format = str(self.header.get("format"))
        try:
            self._layout = self._journal.layout
        except (LookupError, ValidationError) as error:
            raise self._corrupt("its header is altered") from error

    @cached_property
    def contents(self) -> Contents:
        """What is known by now."""
        images = tuple(image.layout for image in self._images.values())
        return Contents(
            layout=replace(self._layout, images=images),
            summary_metadata=self.header.get("summary_metadata") or {},
            sequence=self.header.get("sequence"),
            complete=False,
        )

    def slots(self, key: str) -> Slots:
        """Return the slot of every place of an image."""
        return self._images[key].slots

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return what the journal says about a frame."""
        line = self._journal.lines.line_at(self._images[image.key].line_at(place))
        if not line:
            raise self._corrupt("the line of this frame is altered")
        return dict(orjson.loads(line)["frame"])

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return every frame, in order of arrival."""
        return self._journal.frames()

    def refresh(self) -> list[Frame]:
        """Read what was appended; return the frames that came, in order of arrival."""
        return [frame for lines in self._read_on() for frame in self._frames_of(lines)]

    def is_live(self) -> bool:
        """Whether somebody still writes: its writer holds a lock as long as it lives."""
        try:
            FileLock(self._journal.path).release()
        except BlockingIOError:
            return True
        except OSError:  # no journal any more, no locks here, or not ours to write
            return self._journal.path.exists() and is_alive(self.header.get("process") or {})
        return False

    # ------------------------------------------------------------ lines

    def _await_header(self) -> None:
        path = self._journal.path
        deadline = time.monotonic() + HEADER_WAIT_S
        while True:
            for _ in self._read_on():
                pass
            if self._journal.header:
                return
            # its header is there twice, and first
            late = time.monotonic() > deadline or time.time() - path.stat().st_mtime > 60
            if late or self._journal.lines.count > 1:
                raise self._journal.no_header()
            time.sleep(0.02)

    def _read_on(self) -> Iterator[FrameLines]:
        """Take in what was appended, and yield what it says of frames, many lines at a time."""
        gathered = list[FrameLines]()
        self.__dict__.pop("contents", None)
        for block in self._journal.lines.blocks():
            for line in block.others:
                if key := self._journal.take(line):
                    self._describe(self._journal.images[key])
            gathered.append(self._frame_lines(block))
            if sum(map(len, gathered)) >= GATHERED:
                yield self._placed(FrameLines.joined(gathered))
                gathered = []
        if gathered:
            yield self._placed(FrameLines.joined(gathered))

    def _describe(self, image: ImageLayout) -> None:
        if image.key in self._images:
            self._images[image.key].describe(image)
            return
        self._images[image.key] = FillingImage(image)
        for places in self._left_out.pop(image.key, ()):
            self._images[image.key].leave_out(places)

    def _frame_lines(self, block: Lines) -> FrameLines:
        try:
            places, slots = places_and_slots(block.frames)
            heads = [line[: line.index(_FRAME)] for line in block.frames]
            numbers = np.fromiter(map(self._numbers.__getitem__, heads), np.int64, len(heads))
        except (LookupError, TypeError, ValueError) as error:
            between = f"{block.rows[0]} to {block.rows[-1]}"
            raise self._corrupt(
                f"one of the lines {between} does not say where its frame is"
            ) from error
        return FrameLines(block.rows, block.at, numbers, places, slots)

    # ------------------------------------------------------------ places

    def _placed(self, lines: FrameLines) -> FrameLines:
        """Note what some lines tell, image by image."""
        order = np.argsort(lines.images, kind="stable")
        changes = np.flatnonzero(np.diff(lines.images[order])) + 1
        for rows in np.split(order, changes) if len(order) else ():
            self._place(self._numbers.image_keys[lines.images[rows[0]]], lines[rows])
        return lines

    def _place(self, key: str, lines: FrameLines) -> None:
        """Note what some lines tell of one image."""
        kept = lines.slots != LEFT_OUT
        frames, left_out = lines[kept], lines[~kept]
        image = self._images.get(key)
        if image is None:
            if len(frames):
                raise self._corrupt(
                    f"line {frames.rows[0]} is about an image that is not described"
                )
            self._left_out[key].append(left_out.places)
            return
        try:
            image.take(frames.places, frames.slots, frames.at)
        except PlaceError as error:
            raise self._corrupt(f"line {frames.rows[error.row]} {error}") from error
        image.leave_out(left_out.places)

    def _frames_of(self, lines: FrameLines) -> Iterator[Frame]:
        """Return the frames that were kept, in order of arrival."""
        kept = lines[lines.slots != LEFT_OUT]
        keys = self._numbers.image_keys
        for number, place in zip(kept.images.tolist(), kept.places.tolist(), strict=True):
            yield keys[number], tuple(i for i in place if i >= 0)

    def _corrupt(self, what: str) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self._journal.path}: cut or altered ({what}). Copy it again if this is a copy, "
            "or run `mda-writers recover` on the recording; the pixels can be read with any TIFF "
            "or Zarr reader."
        )


class ImageNumbers(dict[bytes, int]):
    """Numbers for the images that lines are about, by how the line starts; their keys in order."""

    def __init__(self) -> None:
        super().__init__()
        self.image_keys: list[str] = []

    def __missing__(self, head: bytes) -> int:
        self.image_keys.append(str(orjson.loads(head[len(FRAME_START) :])))
        self[head] = number = len(self)
        return number


@dataclass(frozen=True, slots=True)
class FrameLines:
    """What some lines say about frames, one row each, in order of arrival.

    Attributes
    ----------
    rows : array
        Numbers of the lines.
    at : array
        Where they begin in the journal.
    images : array
        Numbers of their images (`ImageNumbers`).
    places : array
        A column an axis, −1 where the image has fewer.
    slots : array
        A slot, `BY_PLACE` or `LEFT_OUT`.
    """

    rows: np.ndarray
    at: np.ndarray
    images: np.ndarray
    places: np.ndarray
    slots: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: np.ndarray) -> FrameLines:
        return FrameLines(*(getattr(self, name)[index] for name in self.__slots__))

    @classmethod
    def joined(cls, parts: Sequence[FrameLines]) -> FrameLines:
        """Return the lines of several parts, one after the other."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in cls.__slots__))


# Place and slot of frames, out of the ends of many lines of a journal.
#
# At the end of a line is what this package added to the frame; all before it is left unparsed.
# Objects made by the million would have Python's garbage collector walk the heap again and again,
# which took longer than all else: lines of one form, as those of a recording are, give none but
# bytes and two lists of numbers.


def places_and_slots(lines: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the frames of some lines belong, and where they lie in their files.

    Parameters
    ----------
    lines : sequence of bytes
        Without their newlines, each with its seal intact.

    Returns
    -------
    places : array
        A row a line, and a column for every axis that there can be; −1 where there are fewer.
    slots : array
        A number in the file, `BY_PLACE` or `LEFT_OUT`.

    Raises
    ------
    LookupError, TypeError, ValueError
        If a line says nothing of the kind.
    """
    ends = [line[line.rindex(_PLACE) + len(_PLACE) : -SEAL_BYTES - BRACES_CLOSED] for line in lines]
    plain = _plain_numbers(ends) if lines and is_sealed(lines[0]) else None
    if plain is not None:
        return plain
    additions = [orjson.loads(line)["frame"][_OURS] for line in lines]
    columns = list(zip_longest(*(ours["place"] for ours in additions), fillvalue=_NO_AXIS))
    places = np.array(columns, np.int64).T.reshape(len(lines), len(columns))
    return _widened(places), np.fromiter(map(_slot, additions), np.int64, len(lines))


def _plain_numbers(ends: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return places and slots of lines that are all of one form; None if they are not."""
    together = b"".join(ends)
    names = [name for name in _SLOTS if name in together]
    if b"{" in together or len(names) > 1:
        return None
    kept = np.ones(len(ends), bool)
    if _LEFT_OUT in together:
        kept = np.array([_LEFT_OUT not in end for end in ends], bool)
    slots = np.where(kept, BY_PLACE, LEFT_OUT)
    try:
        if names:
            stored = ends if kept.all() else list(compress(ends, kept))
            slots[kept] = _numbers_after(names[0], stored)
        return _widened(_places(ends)), slots
    except ValueError:
        return None


def _numbers_after(name: bytes, ends: Sequence[bytes]) -> np.ndarray:
    n = len(name)
    texts = [end[(i := end.index(name) + n) : end.index(b",", i)] for end in ends]
    return np.array(orjson.loads(b"[" + b",".join(texts) + b"]"), np.int64)


def _places(ends: Sequence[bytes]) -> np.ndarray:
    """Return places that all have as many axes.

    Raises
    ------
    ValueError
        If they differ.
    """
    texts = [end[: end.index(b"]")] for end in ends]
    if len({text.count(b",") for text in texts}) != 1:
        raise ValueError("places in images of several kinds")
    numbers = orjson.loads(b"[" + b",".join(texts) + b"]")
    return np.array(numbers, np.int64).reshape(len(texts), -1)


def _widened(places: np.ndarray) -> np.ndarray:
    """Return places with a column for every axis that there can be."""
    table = np.full((len(places), len(AXES)), _NO_AXIS, np.int64)
    table[:, : places.shape[1]] = places
    return table


def _slot(ours: Mapping[str, Any]) -> int:
    return slot_of(ours, BY_PLACE) if ours.get("saved", True) else LEFT_OUT


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
