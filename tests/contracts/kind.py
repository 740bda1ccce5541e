"""What a format has to say about itself so that the contracts can be tested on it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import tifffile
import xxhash

from mda_writers import BigTiffWriter
from stamps import check_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from mda_writers.writers.base import MDAWriter


class OnRecord(NamedTuple):
    """One frame that a journal or a sidecar names."""

    key: str
    metadata: dict[str, Any]

    @property
    def ours(self) -> dict[str, Any]:
        return self.metadata["mda_writers"]

    @property
    def index(self) -> dict[str, int]:
        return {axis: i for axis, i in self.ours["index"].items() if axis != "repeat"}


class Kind:
    """A writer, and a stock reader for what it writes. Subclass it for each format."""

    writer_class: type[MDAWriter]
    file_name: str
    lossless = True

    def make_writer(self, folder: Path, **options: Any) -> MDAWriter:
        return self.writer_class(folder / self.file_name, **options)

    def reader(self, folder: Path) -> Any:
        """Return ``read(ours) → pixels``, by another library, as it would open any file."""
        raise NotImplementedError

    def check_opens(self, folder: Path, file: str) -> None:
        """Check that a stock reader opens a file of the recording without a word of complaint."""
        raise NotImplementedError

    def pixel_byte(self, folder: Path, ours: Mapping[str, Any], byte: int) -> tuple[Path, int]:
        """Return the file and the offset of one byte of a frame's pixels."""
        raise NotImplementedError

    def check_frames(self, folder: Path, name: str | None = None) -> list[OnRecord]:
        """Check each frame on record: its pixels by stamp and checksum, by a stock reader."""
        frames = on_record(folder / (name or self.file_name))
        read = self.reader(folder)
        for frame in frames:
            pixels = read(frame.ours)
            check_stamp(pixels, frame.index)
            assert xxhash.xxh3_64_hexdigest(pixels.tobytes()) == frame.ours["xxh3_64"]
        for file in {frame.ours["file"] for frame in frames}:
            self.check_opens(folder, file)
        return frames


class BigTiff(Kind):
    """``BigTiffWriter``, read by tifffile."""

    writer_class = BigTiffWriter
    file_name = "exp.ome.tiff"

    def reader(self, folder: Path) -> Any:
        files: dict[str, list[np.ndarray]] = {}

        def read(ours: Mapping[str, Any]) -> np.ndarray:
            if ours["file"] not in files:
                with tifffile.TiffFile(folder / ours["file"]) as tif:
                    files[ours["file"]] = [page.asarray() for page in tif.pages]
            return files[ours["file"]][ours["ifd"]]

        return read

    def check_opens(self, folder: Path, file: str) -> None:
        said: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        tifffile.logger().addHandler(handler)
        with tifffile.TiffFile(folder / file) as tif:
            assert tif.is_bigtiff and tif.is_ome
            assert tif.series
        tifffile.logger().removeHandler(handler)
        # a recording that ended in the middle has holes, and tifffile may say so
        assert not [text for text in said if "missing" not in text], said

    def pixel_byte(self, folder: Path, ours: Mapping[str, Any], byte: int) -> tuple[Path, int]:
        return folder / ours["file"], ours["offset_bytes"] + byte


def on_record(path: Path) -> list[OnRecord]:
    """Return the frames of the sidecar, or of the journal where there is none yet.

    Read here by hand: the package's own reading is what is being tested.
    """
    sidecar = path.with_name(path.name + "_frame_metadata.json")
    if sidecar.exists():
        content = orjson.loads(sidecar.read_bytes())
        positions = {key: frames for key, frames in content.items() if isinstance(frames, list)}
        found = [OnRecord(key, frame) for key, frames in positions.items() for frame in frames]
        return sorted(found, key=lambda frame: frame.ours["number"])
    journal = path.with_name(path.name + "_frames.jsonl")
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]  # what is behind the last newline is torn
    entries = [orjson.loads(line) for line in lines]
    return [OnRecord(entry["key"], entry["frame"]) for entry in entries if "frame" in entry]


def report_on_disk(path: Path) -> dict[str, Any]:
    """Return the report beside the recording at `path`."""
    content = orjson.loads(path.with_name(path.name + "_recording.json").read_bytes())
    return content["report"]
