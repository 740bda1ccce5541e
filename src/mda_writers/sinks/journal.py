"""The journal: a line for everything that is safely on disk, appended as it gets there.

A file of JSON lines. The first is the header, ``{"recording": {…}}``; then, in any order,
``{"image": {…}}`` when an image is laid out (the last line of a key counts), and
``{"key": …, "frame": {…}}`` when a frame's pixels are in their file, and now and then
``{"load": {…}}``. A line that was cut off by a crash is no line. Each line has a seal
(``sinks/seal.py``).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter, ValidationError

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.encode import to_json
from mda_writers.model.layout import ImageLayout, Layout
from mda_writers.sinks.load_log import LOAD_START, taken_in
from mda_writers.sinks.seal import seal_and_close, sealed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL_SUFFIX = "_frames.jsonl"

_FRAME_START = b'{"key":'
_FRAME_MIDDLE = b',"frame":'


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
    images : dict
        Key → the image as it was last laid out.
    planes_laid_out : dict
        Key → planes that the file has room for, where the format lays out its files.
    load : list of dict
        How full queue and disk were meanwhile.
    """

    path: Path
    header: dict[str, Any]
    images: dict[str, ImageLayout] = field(default_factory=dict)
    planes_laid_out: dict[str, int] = field(default_factory=dict)
    load: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read the header and the images.

        Raises
        ------
        CorruptRecordingError
            If there is no whole header.
        """
        lines = whole_lines(path)
        try:
            header = orjson.loads(next(lines))["recording"]
        except (StopIteration, orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise CorruptRecordingError(
                f"{path}: not the journal of a recording (its first line is cut or altered). "
                "The pixels can be read without it, with any TIFF or Zarr reader."
            ) from error
        journal = cls(path, header)
        for line in lines:
            if line.startswith(b'{"image":'):
                journal._add_image(line)
            elif line.startswith(LOAD_START):
                with suppress(orjson.JSONDecodeError):
                    taken_in(journal.load, orjson.loads(line)["load"])
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

    def frame_lines(self) -> Iterator[bytes]:
        """Return the whole lines of frames."""
        return (line for line in whole_lines(self.path) if line.startswith(_FRAME_START))

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame, in order of arrival."""
        for line in self.frame_lines():
            entry = orjson.loads(line)
            yield entry["key"], entry["frame"]

    def _add_image(self, line: bytes) -> None:
        try:
            entry = orjson.loads(line)
            image = _IMAGE.validate_python(entry["image"])
        except (orjson.JSONDecodeError, ValidationError, KeyError) as error:
            raise CorruptRecordingError(
                f"{self.path}: a line about an image is altered ({error})."
            ) from error
        self.images[image.key] = image
        self.planes_laid_out[image.key] = entry.get("planes", 0)


def whole_lines(path: Path) -> Iterator[bytes]:
    """Return the lines of a file that end as lines; the torn rest of a crash is none."""
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"}\n"):
                yield line


def header_line(header: dict[str, Any]) -> bytes:
    """Return the first line of a journal."""
    return sealed(b'{"recording":' + to_json(header) + b"}") + b"\n"


def image_line(image: ImageLayout, planes: int) -> bytes:
    """Return the line of an image that was laid out, with room for `planes` planes."""
    return sealed(b'{"image":' + to_json(image) + b',"planes":%d}' % planes) + b"\n"


_LAYOUT = TypeAdapter(Layout)
_IMAGE = TypeAdapter(ImageLayout)
