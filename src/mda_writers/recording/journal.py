"""The journal: a line for each frame that is on disk, with a checksum of its own."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import compress
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson
import xxhash
from pydantic import TypeAdapter, ValidationError

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_json
from mda_writers.model.layout import ImageLayout, Layout
from mda_writers.model.names import OwnNames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


JOURNAL_SUFFIX = "_frames.jsonl"

FRAME_START = b'{"key":'
"""How the line of a frame begins."""

_FRAME_MIDDLE = b',"frame":'
_HEADER_START = b'{"recording":'
_IMAGE_START = b'{"image":'

LOAD_START = b'{"load":'

_STARTS = (FRAME_START, _IMAGE_START, _HEADER_START, LOAD_START)

_START = b',"seal":"'
_END = b'"}'
_DIGEST_BYTES = 16

SEAL_BYTES = len(_START) + _DIGEST_BYTES + len(_END)
"""Length of a seal, with the brace that it closes."""

_FARTHEST = 64
"""Bytes from the end within which a seal begins."""

SEALS = "seals"
"""Where a recording's report file keeps the seals of its other files, by name."""

_READ_BYTES = 4 << 20

BLOCK_BYTES = 1 << 20
"""Of a journal, at a time: such a block stays in the processor's cache."""

BRACES_CLOSED = 2
"""Behind a frame's seal, which ends the additions: the frame's brace, and the line's."""

MOST_SAMPLES = 1000
"""Samples that are kept of a recording, at most; about as many as a plot has pixels."""


# The journal: a line for everything that is safely on disk, appended as it gets there.
#
# A file of JSON lines. The first is the header, ``{"recording": {…}}``; then, in any order,
# ``{"image": {…}}`` when an image is laid out (the last line of a key counts), and ``{"key": …,
# "frame": {…}}`` when a frame's pixels are in their file, and now and then ``{"load": {…}}``. A
# line that was cut off by a crash is no line. Each line has a checksum, its seal; one that
# is altered is taken for true by nobody, and keeps nobody from the others. What all frames depend
# on, the header and the images, is there twice.


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
            FRAME_START,
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
    key, frame = line[len(FRAME_START) :].split(_FRAME_MIDDLE, 1)
    return key, frame.rstrip(b"\n")[:-1]


class Journal:
    """What a journal says about a recording; frames are read again each time they are asked for."""

    def __init__(self, path: Path) -> None:
        main = path.with_name(path.name.removesuffix(JOURNAL_SUFFIX))
        self.path = path
        self.lines = JournalLines(path)
        # what is known of the whole recording: sequence, summary_metadata, layout, …
        self.header: dict[str, Any] = {}
        # what the recording's files are called now
        self.names = OwnNames(main.name, main)
        # key → the image as it was last laid out, and the planes that its file has room for
        self.images: dict[str, ImageLayout] = {}
        self.planes_laid_out: dict[str, int] = {}
        # how full queue and disk were meanwhile
        self.load: list[dict[str, Any]] = []

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read the header and the images.

        Raises
        ------
        CorruptRecordingError
            If there is no whole header.
        """
        journal = cls(path)
        for block in journal.lines.blocks(to_end=True):
            for line in block.others:
                journal.take(line)
        if not journal.header:
            raise journal.no_header()
        return journal

    @property
    def altered(self) -> list[int]:
        """Numbers of the lines that are not as they were written: nothing is known of them."""
        return self.lines.altered

    @property
    def layout(self) -> Layout:
        """The recording's layout, with the images laid out so far."""
        layout = _LAYOUT.validate_python(self.header["layout"])
        return replace(layout, images=tuple(self.images.values()))

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame, in order of arrival."""
        for block in JournalLines(self.path).blocks(to_end=True):
            for line in block.frames:
                with suppress(orjson.JSONDecodeError):  # of a line without a seal
                    entry = orjson.loads(line)
                    yield entry["key"], self.names.frame_now(entry["frame"])

    def take(self, line: bytes) -> str:
        """Take in a line that is not about a frame; return the key of the image it describes."""
        try:
            if line.startswith(_IMAGE_START):
                entry = orjson.loads(line)
                image = self.names.image_now(_IMAGE.validate_python(entry["image"]))
                self.images[image.key] = image
                self.planes_laid_out[image.key] = entry.get("planes", 0)
                return image.key
            if line.startswith(LOAD_START):
                taken_in(self.load, orjson.loads(line)["load"])
            elif not self.header:
                self.header = orjson.loads(line)["recording"]
                self.names = OwnNames.of(self.header, self.names.path)
        except (orjson.JSONDecodeError, ValidationError, LookupError, TypeError) as error:
            # a line without a seal, as they were once, may be anything
            if not self.header:
                raise self.no_header() from error
        return ""

    def no_header(self) -> CorruptRecordingError:
        """Return the error for a journal without a whole header."""
        return CorruptRecordingError(
            f"{self.path}: not the journal of a recording (its first line is cut or altered, and "
            "so is its copy). The pixels can be read without it, with any TIFF or Zarr reader."
        )


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that are as they were written, without their ends; those about frames apart."""

    others: list[bytes]
    frames: list[bytes]
    rows: np.ndarray  # numbers of the lines about frames
    at: np.ndarray  # where they begin in the journal


class JournalLines:
    """Reads the lines of a journal that are as they were written; goes on where it stopped.

    What takes time is the number of Python steps per line: all lines of a block are checked at
    once, a million in a second. Two lines that only lost the end of line between them are
    returned nevertheless.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.altered: list[int] = []
        self._offset = 0
        self._without_seals = False

    def blocks(self, *, to_end: bool = False) -> Iterator[Lines]:
        """Yield the lines that were appended, about a MiB at a time.

        A last line without its end may be one that is being written: it is read where `to_end`
        says that nobody writes; the torn rest of a crash is no line.
        """
        rest = b""
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            while chunk := stream.read(BLOCK_BYTES):
                text = rest + chunk
                end = text.rfind(b"\n") + 1
                rest = text[end:]
                if end:
                    yield self._checked(text[:end])
        if to_end and rest:
            yield self._checked(rest)

    def line_at(self, offset: int) -> bytes:
        """Return the line that begins there; nothing if it is altered."""
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for _, at, line in self._sound(stream.readline(), 0):
                return line if at == 0 else b""
        return b""

    def _checked(self, text: bytes) -> Lines:
        first, offset = self.count + 1, self._offset
        lines = text.removesuffix(b"\n").split(b"\n")
        if first == 1:  # not by the first line alone: that may be the altered one
            self._without_seals = not any(map(is_sealed, lines))
        self.count, self._offset = self.count + len(lines), offset + len(text)
        is_frame = [line.startswith(FRAME_START) for line in lines]
        frames, others = _split(lines, is_frame)
        whole = text.endswith(b"\n") and first_broken(frames, BRACES_CLOSED) is None
        if whole and all(map(is_sealed, others)):
            lengths = np.fromiter(map(len, lines), np.int64, len(lines)) + 1
            rows, at = np.arange(first, first + len(lines)), offset + np.cumsum(lengths) - lengths
        else:
            found = list(self._sound(text, first, self.altered))
            is_frame = [line.startswith(FRAME_START) for _, _, line in found]
            frames, others = _split([line for _, _, line in found], is_frame)
            rows = np.array([row for row, _, _ in found], np.int64)
            at = np.array([offset + at for _, at, _ in found], np.int64)
        chosen = np.array(is_frame, bool)
        return Lines(others, frames, rows[chosen], at[chosen])

    def _sound(
        self, text: bytes, first: int, altered: list[int] | None = None
    ) -> Iterator[tuple[int, int, bytes]]:
        """Return the number of each sound line, where it begins, and the line, one by one."""
        offset = 0
        for row, line in enumerate(BytesIO(text), first):
            if is_sealed(line) or _may_lack_seal(line, self._without_seals):
                yield row, offset, line.removesuffix(b"\n")
            else:
                pieces = list(_sound_pieces(line))
                if altered is not None and (pieces or line.endswith(b"\n")):
                    altered.append(row)
                yield from ((row, offset + begin, piece) for begin, piece in pieces)
            offset += len(line)


def _split(lines: list[bytes], is_frame: list[bool]) -> tuple[list[bytes], list[bytes]]:
    frames = list(compress(lines, is_frame))
    return frames, [line for line, yes in zip(lines, is_frame, strict=True) if not yes]


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


def header_line(header: dict[str, Any]) -> bytes:
    """Return the first line of a journal, twice: without it nothing else has a meaning."""
    return (sealed(_HEADER_START + to_json(header) + b"}") + b"\n") * 2


def image_line(image: ImageLayout, planes: int) -> bytes:
    """Return the line of an image that was laid out, with room for `planes` planes; twice."""
    return (sealed(_IMAGE_START + to_json(image) + b',"planes":%d}' % planes) + b"\n") * 2


_LAYOUT = TypeAdapter(Layout)
_IMAGE = TypeAdapter(ImageLayout)
_ANY_START = re.compile(b"|".join(map(re.escape, _STARTS)))


# Seals: an altered byte in what is written about a recording is told from a true one.
#
# The pixels of a frame have their checksum; what says where they belong must not be less safe. A
# JSON object is sealed by its last member, ``"seal": "…"``, the xxh3_64 of all that stands
# before; a file of another kind, as a TIFF, by a `FileSeal` that is kept in a sealed object.


@dataclass(frozen=True, slots=True)
class FileSeal:
    """What a file holds besides pixels, which have checksums of their own.

    Attributes
    ----------
    xxh3_64 : str
        Checksum of all bytes that are not pixels.
    size_bytes : int
        The file's length.
    pixels : tuple of int
        Where pixels begin and end, begin and end, …; ascending.
    """

    xxh3_64: str
    size_bytes: int
    pixels: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path, pixels: Sequence[int] = ()) -> Self:
        """Return the seal of a file as it is now."""
        digest, size = xxhash.xxh3_64(), path.stat().st_size
        with path.open("rb", buffering=0) as stream:
            for begin, end in _between(pixels, size):
                stream.seek(begin)
                while begin < end and (chunk := stream.read(min(_READ_BYTES, end - begin))):
                    digest.update(chunk)
                    begin += len(chunk)
        return cls(digest.hexdigest(), size, tuple(pixels))

    @classmethod
    def of_entry(cls, entry: Sequence[Any]) -> Self:
        """Return the seal that `entry` was made of."""
        digest, size, pixels = entry
        return cls(digest, size, tuple(pixels))

    @property
    def entry(self) -> list[Any]:
        """The seal as JSON has it."""
        return [self.xxh3_64, self.size_bytes, list(self.pixels)]

    def damage(self, path: Path) -> str:
        """Return how a file differs from the one that was sealed; nothing if it does not.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        size = path.stat().st_size
        if size != self.size_bytes:
            return f"it has {size} bytes, and was written with {self.size_bytes}"
        if self.of(path, self.pixels).xxh3_64 != self.xxh3_64:
            return "what it says besides the pixels is altered since it was written"
        return ""


def _between(pixels: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Return what is not between the begin and the end of pixels."""
    bounds = (0, *pixels, size)
    return zip(bounds[::2], bounds[1::2], strict=True)


def seal_and_close(body: bytes) -> bytes:
    """Return `body`, a JSON object without its last brace, with its seal and the brace."""
    return b"".join((body, _START, _digest(body), _END))


def sealed(json: bytes) -> bytes:
    """Return a JSON object with its seal."""
    return seal_and_close(json[:-1])


def is_intact(text: bytes) -> bool:
    """Return whether `text` is as it was sealed; True where it has no seal."""
    start = text.rfind(_START, max(0, len(text) - _FARTHEST))
    if start < 0:
        return not _lost_its_mark(text)
    end = start + len(_START) + _DIGEST_BYTES
    return (
        text[end - _DIGEST_BYTES : end] == _digest(text[:start])
        and text.startswith(_END, end)
        and not text[end + len(_END) :].strip(b"}\n")
    )


def is_sealed(text: bytes) -> bool:
    """Return whether `text` has a seal, and is as it was sealed."""
    return text.rfind(_START, max(0, len(text) - _FARTHEST)) >= 0 and is_intact(text)


def _lost_its_mark(text: bytes) -> bool:
    """Return whether the checksum of a seal is there, and the word that introduces it altered."""
    end = text.rfind(b'"')
    start = end - _DIGEST_BYTES - len(_START)
    return start >= 0 and text[end - _DIGEST_BYTES : end] == _digest(text[:start])


def _digest(body: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(body).encode()


def first_broken(texts: Sequence[bytes], closed: int) -> int | None:
    """Return which of many texts is the first without its seal, or not as it was sealed.

    Parameters
    ----------
    texts : sequence of bytes
        Objects that end with their seal, each followed by `closed` braces more.

    Returns
    -------
    int or None
        Its number; None if all are intact. For thousands of texts much faster than `is_intact`.
    """
    if _all_intact(texts, closed):
        return None
    return next(n for n, text in enumerate(texts) if not _all_intact([text], closed))


def _all_intact(texts: Sequence[bytes], closed: int) -> bool:
    length = SEAL_BYTES + closed
    ends = b"".join([text[-length:] for text in texts])
    if len(ends) != length * len(texts):
        return False
    digests = b"".join(map(xxhash.xxh3_64_digest, [text[:-length] for text in texts]))
    table = np.frombuffer(ends, np.uint8).reshape(-1, length)
    start, digest, end = np.split(table, [len(_START), len(_START) + _DIGEST_BYTES], axis=1)
    return bool(
        (start == np.frombuffer(_START, np.uint8)).all()
        and (end == np.frombuffer(_END + b"}" * closed, np.uint8)).all()
        and digest.tobytes() == digests.hex().encode()
    )


def taken_in(samples: list[dict[str, Any]], sample: dict[str, Any]) -> None:
    """Add a sample to those read so far, such that they stay few and evenly spaced."""
    samples.append(sample)
    if len(samples) == MOST_SAMPLES:
        del samples[1::2]
