"""A recording that goes on, or was interrupted, as its journal tells it so far."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pydantic import TypeAdapter, ValidationError

from mda_writers.dataset.sources import Contents
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import ImageLayout, Layout
from mda_writers.model.plane import slot_of
from mda_writers.recording.runs import BY_PLACE
from mda_writers.sinks.journal import whole_lines
from mda_writers.sinks.seal import is_intact
from mda_writers.sinks.sidecar import journal_path
from mda_writers.storage.lock import FileLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mda_writers.dataset.sources import Frame

HEADER_WAIT_S = 2.0
"""A journal's name is reserved a moment before its first line is written."""

READ_BYTES = 64 << 20
"""Read at a time: the journal of a million frames is a gigabyte."""

_LAYOUT = TypeAdapter(Layout)
_IMAGE = TypeAdapter(ImageLayout)
_KEY, _FRAME, _OURS = b'{"key":', b',"frame":', b'"mda_writers":'
_MISSING, _NO_PIXELS = -1, -3


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
        self._images: dict[str, ImageLayout] = {}
        self._slots: dict[str, np.ndarray] = {}
        self._line_at: dict[str, np.ndarray] = {}
        self._extent: dict[str, tuple[int, ...]] = {}
        self._told: dict[str, np.ndarray] = {}
        self._keys: dict[bytes, str] = {}
        self.header = self._read_header()
        self.format = str(self.header.get("format"))
        self._layout = self._validated(_LAYOUT, self.header.get("layout"))
        self.refresh()

    @property
    def contents(self) -> Contents:
        """What is known by now."""
        return Contents(
            layout=replace(self._layout, images=tuple(map(self._grown, self._images.values()))),
            summary_metadata=self.header.get("summary_metadata") or {},
            sequence=self.header.get("sequence"),
            complete=False,
        )

    def slots(self, key: str) -> np.ndarray:
        """Return the slot of every place of an image."""
        if key not in self._told:
            slots = self._slots[key][tuple(map(slice, self._extent[key]))]
            places = np.arange(slots.size).reshape(slots.shape)
            self._told[key] = np.where(slots == BY_PLACE, places, slots)
        return self._told[key]

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return what the journal says about a frame."""
        with self._path.open("rb") as stream:
            stream.seek(int(self._line_at[image.key][place]))
            return dict(self._parsed(stream.readline())["frame"])

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return every frame, in order of arrival."""
        for line in whole_lines(self._path):
            if line.startswith(_KEY):
                entry = self._parsed(line)
                yield entry["key"], entry["frame"]

    def refresh(self) -> list[Frame]:
        """Read what was appended; return the frames that came, in order of arrival."""
        came: list[Frame] = []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            while True:
                chunk = stream.read(READ_BYTES)
                whole = chunk[: chunk.rfind(b"\n") + 1]
                if not whole:
                    return came
                self._told.clear()
                for line in whole.splitlines(keepends=True):
                    self._take(line, came)
                    self._offset += len(line)
                stream.seek(self._offset)

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

    def _take(self, line: bytes, came: list[Frame]) -> None:
        self._lines += 1
        if not is_intact(line):
            raise self._corrupt(f"line {self._lines} is altered")
        if line.startswith(_KEY):
            self._take_frame(line, came)
        elif line.startswith(b'{"image":'):
            image = self._validated(_IMAGE, self._parsed(line).get("image"))
            self._images[image.key] = image
            if image.key not in self._slots:
                self._slots[image.key] = self._empty(image)
                self._line_at[image.key] = self._empty(image)
                self._extent[image.key] = self._slots[image.key].shape
        else:
            self._parsed(line)  # of another kind; it must be whole all the same

    def _take_frame(self, line: bytes, came: list[Frame]) -> None:
        key, place, slot = self._placed(line)
        if slot == _NO_PIXELS:
            return
        image = self._images.get(key)
        if image is None or len(place) != len(image.sizes):
            raise self._corrupt(f"line {self._lines} is about an image that it does not describe")
        if image.growing:
            self._make_room(key, place)
        slots = self._slots[key]
        try:
            is_new = slots[place] == _MISSING and min(place, default=0) >= 0
        except IndexError as error:
            raise self._corrupt(f"line {self._lines} names a place outside of its image") from error
        if not is_new:
            raise self._corrupt(f"line {self._lines} names a place that another line has named")
        slots[place] = slot
        self._line_at[key][place] = self._offset
        came.append((key, place))

    def _placed(self, line: bytes) -> tuple[str, tuple[int, ...], int]:
        """Return key, place and slot of a frame, parsing only what this package added."""
        try:
            ours = orjson.loads(line[line.rindex(_OURS) + len(_OURS) : -3])
            written = line[len(_KEY) : line.index(_FRAME)]
            key = self._keys.get(written)
            if key is None:
                key = self._keys[written] = str(orjson.loads(written))
            place = tuple(map(int, ours["place"]))
            slot = slot_of(ours, BY_PLACE) if ours.get("saved", True) else _NO_PIXELS
            return key, place, slot
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._corrupt(f"line {self._lines} is altered") from error

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise self._corrupt(f"line {max(1, self._lines)} is altered") from error
        if not isinstance(entry, dict):
            raise self._corrupt(f"line {max(1, self._lines)} is altered")
        return entry

    def _validated(self, adapter: TypeAdapter[Any], value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise self._corrupt("a line about an image is altered") from error

    # ------------------------------------------------------------ places

    def _empty(self, image: ImageLayout) -> np.ndarray:
        shape = (0,) * len(image.sizes) if image.growing else tuple(image.sizes.values())
        return np.full(shape, _MISSING, np.int64)

    def _make_room(self, key: str, place: tuple[int, ...]) -> None:
        """Let an image that grows have `place`, with room to spare."""
        extent = self._extent[key]
        self._extent[key] = tuple(max(n, i + 1) for i, n in zip(place, extent, strict=True))
        shape = self._slots[key].shape
        if all(i < n for i, n in zip(place, shape, strict=True)):
            return
        grown = tuple(n if i < n else max(i + 1, 2 * n) for i, n in zip(place, shape, strict=True))
        for arrays in (self._slots, self._line_at):
            room = np.full(grown, _MISSING, np.int64)
            room[tuple(map(slice, shape))] = arrays[key]
            arrays[key] = room

    def _grown(self, image: ImageLayout) -> ImageLayout:
        if not image.growing:
            return image
        return replace(image, sizes=dict(zip(image.sizes, self._extent[image.key], strict=True)))

    def _corrupt(self, what: str) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self._path}: cut or altered ({what}). Copy it again if this is a copy, or run "
            "`mda-writers recover` on the recording; the pixels can be read with any TIFF or Zarr "
            "reader."
        )
