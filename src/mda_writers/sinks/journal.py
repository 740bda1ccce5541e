"""The journal: a line for everything that is safely on disk, appended as it gets there.

A file of JSON lines. The first is the header, ``{"recording": {…}}``; then, in any order,
``{"image": {…}}`` when an image is laid out (the last line of a key counts), and
``{"key": …, "frame": {…}}`` when a frame's pixels are in their file, and now and then
``{"load": {…}}``. A line that was cut off by a crash is no line. Each line has a seal
(``sinks/seal.py``); one that is altered is taken for true by nobody, and keeps nobody from the
others. What all frames depend on, the header and the images, is there twice.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter, ValidationError

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_json
from mda_writers.model.layout import ImageLayout, Layout
from mda_writers.model.names import OwnNames
from mda_writers.sinks.load_log import LOAD_START, taken_in
from mda_writers.sinks.seal import is_intact, is_sealed, seal_and_close, sealed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL_SUFFIX = "_frames.jsonl"

_FRAME_START = b'{"key":'
_FRAME_MIDDLE = b',"frame":'
_HEADER_START = b'{"recording":'
_IMAGE_START = b'{"image":'
_STARTS = (_FRAME_START, _IMAGE_START, _HEADER_START, LOAD_START)


def frame_line(key: bytes, metadata: bytes, additions: bytes) -> bytes:
    """Return the line of a frame.

    Parameters
    ----------
    key : bytes
        The image's key, as JSON.
    metadata : bytes
        The frame's metadata, a JSON object.
    additions : bytes
        What this package adds, a JSON object; goes into the metadata as ``mda_writers``.
    """
    comma = b"," if len(metadata) > 2 else b""
    body = b"".join(
        (
            _FRAME_START,
            key,
            _FRAME_MIDDLE,
            metadata[:-1],
            comma,
            b'"mda_writers":',
            additions[:-1],
        )
    )
    return seal_and_close(body) + b"}}\n"


def split_frame_line(line: bytes) -> tuple[bytes, bytes]:
    """Return the key and the frame of a frame's line, both as JSON, without parsing the frame."""
    key, frame = line[len(_FRAME_START) :].split(_FRAME_MIDDLE, 1)
    return key, frame.rstrip(b"\n")[:-1]


@dataclass(slots=True)
class Journal:
    """What a journal says about a recording; frames are read again each time they are asked for.

    Attributes
    ----------
    path : Path
        The journal.
    header : dict
        What is known of the whole recording: ``sequence``, ``summary_metadata``, ``layout``, ….
    names : OwnNames
        What the recording's files are called now.
    images : dict
        Key → the image as it was last laid out.
    planes_laid_out : dict
        Key → planes that the file has room for, where the format lays out its files.
    load : list of dict
        How full queue and disk were meanwhile.
    altered : list of int
        Numbers of the lines that are not as they were written. Nothing else is said of them.
    """

    path: Path
    header: dict[str, Any]
    names: OwnNames
    images: dict[str, ImageLayout] = field(default_factory=dict)
    planes_laid_out: dict[str, int] = field(default_factory=dict)
    load: list[dict[str, Any]] = field(default_factory=list)
    altered: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read the header and the images.

        Raises
        ------
        CorruptRecordingError
            If there is no whole header.
        """
        journal = cls(path, {}, OwnNames(_recording_of(path).name, _recording_of(path)))
        for _, line in sound_lines(path, journal.altered):
            try:
                journal._take(line)
            except (orjson.JSONDecodeError, ValidationError, LookupError, TypeError) as error:
                # a line without a seal, as they were once, may be anything
                if not journal.header:
                    raise _no_header(path) from error
        if not journal.header:
            raise _no_header(path)
        return journal

    @property
    def layout(self) -> Layout:
        """The recording's layout, with the images laid out so far."""
        layout = _LAYOUT.validate_python(self.header["layout"])
        return Layout(
            **{
                name: getattr(layout, name)
                for name in Layout.__dataclass_fields__
                if name != "images"
            },
            images=tuple(self.images.values()),
        )

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame, in order of arrival."""
        for _, line in sound_lines(self.path):
            if line.startswith(_FRAME_START):
                with suppress(orjson.JSONDecodeError):  # of a line without a seal
                    entry = orjson.loads(line)
                    yield entry["key"], self.names.frame_now(entry["frame"])

    def _take(self, line: bytes) -> None:
        """Take in what a line says, if it is not about a frame."""
        if line.startswith(_IMAGE_START):
            entry = orjson.loads(line)
            image = _IMAGE.validate_python(entry["image"])
            self.images[image.key] = self.names.image_now(image)
            self.planes_laid_out[image.key] = entry.get("planes", 0)
        elif line.startswith(LOAD_START):
            taken_in(self.load, orjson.loads(line)["load"])
        elif not self.header and not line.startswith(_FRAME_START):
            self.header = orjson.loads(line)["recording"]
            self.names = OwnNames.of(self.header, self.names.path)


def sound_lines(path: Path, altered: list[int] | None = None) -> Iterator[tuple[int, bytes]]:
    """Return the lines of a journal that are as they were written, and where each begins.

    Parameters
    ----------
    path : Path
        The journal.
    altered : list of int, optional
        Takes the numbers of the lines that are not. Two lines that only lost the end of line
        between them are returned nevertheless. The torn rest of a crash is no line.
    """
    offset, without_seals = 0, False
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                without_seals = is_intact(line) and not is_sealed(line)
            if is_sealed(line) or _may_lack_seal(line, without_seals):
                yield offset, line
            else:
                pieces = list(_sound_pieces(line))
                if altered is not None and (pieces or line.endswith(b"\n")):
                    altered.append(number)
                yield from ((offset + begin, piece) for begin, piece in pieces)
            offset += len(line)


def _may_lack_seal(line: bytes, without_seals: bool) -> bool:
    """Return whether a line is one that was written without a seal: once, none had any."""
    is_load = line.startswith(LOAD_START) and is_intact(line)
    return line.endswith(b"}\n") and (without_seals or is_load)


def _sound_pieces(line: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the whole lines in one that is altered: the end of line behind them may be."""
    begins = [found.start() for found in _ANY_START.finditer(line)]
    for n, begin in enumerate(begins):
        for end in (*begins[n + 1 :], len(line)):
            if is_sealed(line[begin : end - 1]):
                yield begin, line[begin : end - 1]
                break


def _no_header(path: Path) -> CorruptRecordingError:
    return CorruptRecordingError(
        f"{path}: not the journal of a recording (its first line is cut or altered, and so is "
        "its copy). The pixels can be read without it, with any TIFF or Zarr reader."
    )


def _recording_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(JOURNAL_SUFFIX))


def whole_lines(path: Path) -> Iterator[bytes]:
    """Return the lines of a file that end as lines; the torn rest of a crash is none."""
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"}\n"):
                yield line


def header_line(header: dict[str, Any]) -> bytes:
    """Return the first line of a journal, twice: without it nothing else has a meaning."""
    return (sealed(_HEADER_START + to_json(header) + b"}") + b"\n") * 2


def image_line(image: ImageLayout, planes: int) -> bytes:
    """Return the line of an image that was laid out, with room for `planes` planes; twice."""
    return (sealed(_IMAGE_START + to_json(image) + b',"planes":%d}' % planes) + b"\n") * 2


_LAYOUT = TypeAdapter(Layout)
_IMAGE = TypeAdapter(ImageLayout)
_ANY_START = re.compile(b"|".join(map(re.escape, _STARTS)))
