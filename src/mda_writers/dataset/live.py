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
from pydantic import TypeAdapter, ValidationError

from mda_writers.dataset.source import LEFT_OUT, MISSING, Contents
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import AXES, ImageLayout, Layout, slot_of
from mda_writers.model.names import OwnNames
from mda_writers.model.slots import BY_PLACE, FewSlots, is_sparse
from mda_writers.recording.files import journal_path
from mda_writers.recording.journal import SEAL_BYTES, first_broken, is_intact, whole_lines
from mda_writers.storage.files import FileLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from mda_writers.dataset.source import Frame
    from mda_writers.model.slots import Slots


HEADER_WAIT_S = 2.0
"""A journal's name is reserved a moment before its first line is written."""

GATHERED = 100_000
"""Lines that are sorted by their images at once: each image costs 30 µs then, however few of its
lines there are."""

_LAYOUT = TypeAdapter(Layout)
_IMAGE = TypeAdapter(ImageLayout)

BLOCK_BYTES = 1 << 20

FRAME_LINE = b'{"key":'
"""How the line of a frame begins."""

_FRAME = b',"frame":'

NOT_TOLD = (LookupError, TypeError, ValueError)
"""What becomes of a line that does not say where its frame is."""

CLOSED = 2
"""Braces behind the seal's object, which is that of the additions: the frame's and the line's."""

_PLACE, _OURS = b',"place":[', "mda_writers"
_SLOTS = b',"ifd":', b',"frame":'
_LEFT_OUT = b',"saved":false'
_NO_AXIS = -1


class JournalBook:
    """Reads a journal as it grows. What has a line there is on disk with all of its pixels.

    Parameters
    ----------
    path : Path
        The recording's main path.

    Raises
    ------
    FileNotFoundError
        If there is no journal, or no longer.
    CorruptRecordingError
        If a line is cut or altered; the end of a last line that is being written does not count.
    """

    def __init__(self, path: Path) -> None:
        self._path = journal_path(path)
        self._offset = 0
        self._lines = 0
        self._images: dict[str, FillingImage] = {}
        self._numbers = ImageNumbers()
        self._left_out: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        self.header = self._read_header()
        self.names = OwnNames.of(self.header, path)
        self.format = str(self.header.get("format"))
        self._layout = self._validated(_LAYOUT, self.header.get("layout"))
        for _ in self._read_on():
            pass

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
        with self._path.open("rb") as stream:
            stream.seek(self._images[image.key].line_at(place))
            line = stream.readline()
        if not is_intact(line):
            raise self._corrupt("the line of this frame is altered")
        return dict(self._parsed(line)["frame"])

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return every frame, in order of arrival."""
        for line in whole_lines(self._path):
            if line.startswith(FRAME_LINE):
                entry = self._parsed(line)
                yield entry["key"], entry["frame"]

    def refresh(self) -> list[Frame]:
        """Read what was appended; return the frames that came, in order of arrival."""
        return [frame for lines in self._read_on() for frame in self._frames_of(lines)]

    def is_live(self) -> bool:
        """Whether somebody still writes: its writer holds a lock as long as it lives."""
        try:
            FileLock(self._path).release()
        except BlockingIOError:
            return True
        except OSError:  # no journal any more, no locks here, or not ours to write
            return self._path.exists() and is_alive(self.header.get("process") or {})
        return False

    # ------------------------------------------------------------ lines

    def _read_header(self) -> dict[str, Any]:
        deadline = time.monotonic() + HEADER_WAIT_S
        while not (line := self._first_line()).endswith(b"\n"):
            if time.monotonic() > deadline or time.time() - self._path.stat().st_mtime > 60:
                raise self._corrupt("it has no whole first line")
            time.sleep(0.02)
        header = self._parsed(line).get("recording")
        if not isinstance(header, dict) or not is_intact(line):
            raise self._corrupt("its first line is not that of a recording")
        self._offset, self._lines = len(line), 1
        return header

    def _first_line(self) -> bytes:
        with self._path.open("rb") as stream:
            return stream.readline()

    def _read_on(self) -> Iterator[FrameLines]:
        """Take in what was appended, and return what is told of frames, some lines at a time.

        Where a line is altered, what was gathered before it is read, and told, again.
        """
        offset, row, gathered = self._offset, self._lines, list[FrameLines]()
        self.__dict__.pop("contents", None)
        with self._path.open("rb") as stream:
            stream.seek(offset)
            for text in whole_blocks(stream):
                block = LineBlock(text, row + 1, offset)
                gathered.append(self._taken(block))
                offset, row = offset + len(text), row + len(block)
                if sum(map(len, gathered)) >= GATHERED:
                    yield self._placed(FrameLines.joined(gathered))
                    self._offset, self._lines, gathered = offset, row, []
        if gathered:
            yield self._placed(FrameLines.joined(gathered))
            self._offset, self._lines = offset, row

    def _taken(self, block: LineBlock) -> FrameLines:
        """Return what a block says about frames, and take in what else it says."""
        try:
            for row, line in block.others():
                self._take_other(row, line)
            return block.frames(self._numbers)
        except AlteredLineError as error:
            raise self._corrupt(f"line {error.row} is altered") from error

    def _take_other(self, row: int, line: bytes) -> None:
        entry = self._parsed(line, row)
        if "image" not in entry:
            return
        image = self.names.image_now(self._validated(_IMAGE, entry["image"]))
        if image.key in self._images:
            self._images[image.key].describe(image)
            return
        self._images[image.key] = FillingImage(image)
        for places in self._left_out.pop(image.key, ()):
            self._images[image.key].leave_out(places)

    def _parsed(self, line: bytes, row: int = 1) -> dict[str, Any]:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise self._corrupt(f"line {row} is altered") from error
        if not isinstance(entry, dict):
            raise self._corrupt(f"line {row} is altered")
        return entry

    def _validated(self, adapter: TypeAdapter[Any], value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise self._corrupt("a line about an image is altered") from error

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
            f"{self._path}: cut or altered ({what}). Copy it again if this is a copy, or run "
            "`mda-writers recover` on the recording; the pixels can be read with any TIFF or Zarr "
            "reader."
        )


# Lines of a journal, many at once: a million of them are checked and placed in a second.
#
# What takes time is the number of Python steps for each line. So every step is done here for all
# lines of a block in one go. Blocks of 1 MiB stay in the processor's cache.


class AlteredLineError(ValueError):
    """A line is not as it was written; `row` counts it within its block."""

    def __init__(self, row: int) -> None:
        super().__init__(f"line {row} is altered")
        self.row = row


class ImageNumbers(dict[bytes, int]):
    """Numbers for the images that lines are about, by how the line starts; their keys in order."""

    def __init__(self) -> None:
        super().__init__()
        self.image_keys: list[str] = []

    def __missing__(self, head: bytes) -> int:
        self.image_keys.append(str(orjson.loads(head[len(FRAME_LINE) :])))
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


class LineBlock:
    """Whole lines of a journal, and where they are in it.

    Parameters
    ----------
    text : bytes
        The lines, each with its newline.
    row, at : int
        Number of the first line, and where it begins.
    """

    def __init__(self, text: bytes, row: int, at: int) -> None:
        self._lines = text.split(b"\n")
        self._lines.pop()  # behind the last newline there is nothing
        lengths = np.fromiter(map(len, self._lines), np.int64, len(self._lines)) + 1
        self._at = at + np.cumsum(lengths) - lengths
        self._first = row
        self._is_frame = [line.startswith(FRAME_LINE) for line in self._lines]

    def __len__(self) -> int:
        return len(self._lines)

    def others(self) -> Iterator[tuple[int, bytes]]:
        """Return the lines that are not about frames, each with its number.

        Raises
        ------
        AlteredLineError
            If one of them is not as it was sealed.
        """
        for n, line in enumerate(self._lines):
            if not self._is_frame[n]:
                if not is_intact(line):
                    raise AlteredLineError(self._first + n)
                yield self._first + n, line

    def frames(self, images: ImageNumbers) -> FrameLines:
        """Return what the other lines say.

        Raises
        ------
        AlteredLineError
            If one of them is not as it was sealed.
        """
        lines = list(compress(self._lines, self._is_frame))
        rows = np.flatnonzero(self._is_frame)
        broken = first_broken(lines, CLOSED)
        if broken is not None:
            raise AlteredLineError(self._first + int(rows[broken]))
        try:
            places, slots = places_and_slots(lines)
            heads = [line[: line.index(_FRAME)] for line in lines]
        except NOT_TOLD as error:
            odd = next(n for n, line in enumerate(lines) if not is_told(line))
            raise AlteredLineError(self._first + int(rows[odd])) from error
        numbers = np.fromiter(map(images.__getitem__, heads), np.int64, len(lines))
        return FrameLines(self._first + rows, self._at[rows], numbers, places, slots)


def whole_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Return the rest of a file in blocks of whole lines; a last one without its end is left."""
    rest = b""
    while chunk := stream.read(BLOCK_BYTES):
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if end:
            yield text[:end]


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
    ends = [line[line.rindex(_PLACE) + len(_PLACE) : -SEAL_BYTES - CLOSED] for line in lines]
    plain = _plain_numbers(ends)
    if plain is not None:
        return plain
    additions = [orjson.loads(line)["frame"][_OURS] for line in lines]
    columns = list(zip_longest(*(ours["place"] for ours in additions), fillvalue=_NO_AXIS))
    places = np.array(columns, np.int64).T.reshape(len(lines), len(columns))
    return _widened(places), np.fromiter(map(_slot, additions), np.int64, len(lines))


def is_told(line: bytes) -> bool:
    """Return whether a line says where its frame is."""
    try:
        places_and_slots([line])
    except NOT_TOLD:
        return False
    return True


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
