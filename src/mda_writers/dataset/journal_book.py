"""A recording that goes on, or was interrupted, as its journal tells it so far."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pydantic import TypeAdapter, ValidationError

from mda_writers.dataset.filling import FillingImage, PlaceError
from mda_writers.dataset.journal_lines import (
    FRAME_LINE,
    AlteredLineError,
    FrameLines,
    ImageNumbers,
    LineBlock,
    whole_blocks,
)
from mda_writers.dataset.sources import LEFT_OUT, Contents
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import ImageLayout, Layout
from mda_writers.model.names import OwnNames
from mda_writers.sinks.journal import whole_lines
from mda_writers.sinks.seal import is_intact
from mda_writers.sinks.sidecar import journal_path
from mda_writers.storage.lock import FileLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mda_writers.dataset.sources import Frame
    from mda_writers.recording.runs import Slots

HEADER_WAIT_S = 2.0
"""A journal's name is reserved a moment before its first line is written."""

GATHERED = 100_000
"""Lines that are sorted by their images at once: each image costs 30 µs then, however few of its
lines there are."""

_LAYOUT = TypeAdapter(Layout)
_IMAGE = TypeAdapter(ImageLayout)


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
