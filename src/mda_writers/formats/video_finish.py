"""The final form of a video: an ordinary file with its index, read back before it counts."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mda_writers.errors import CorruptRecordingError, WriteError
from mda_writers.formats.video_container import CONTAINERS
from mda_writers.formats.video_read import VideoReader, iter_packets
from mda_writers.storage.atomic import replacing
from mda_writers.storage.space import explained

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDEX_BYTES_A_FRAME = 32
"""Room reserved in front of an MP4's frames for its index: size, time, place and key flag of a
frame take less. In front, because players of a web page should not have to fetch the end first."""


def finish_video(path: Path, numbers: Sequence[int]) -> dict[str, Any]:
    """Give a video its ordinary form, and return what is known of it.

    The frames are copied as they are encoded, into a file beside that takes the place of the first
    once it has been read back.

    Parameters
    ----------
    path : Path
        The video; nobody else writes to it.
    numbers : sequence of int
        The frames that the journal names.

    Raises
    ------
    WriteError
        If the file does not hold the frames that were written, or there is no room.
    """
    if sorted(numbers) != list(range(len(numbers))):
        raise WriteError(f"{path}: the journal does not name its frames one after the other.")
    try:
        with replacing(path) as stream:
            copied = _remux(path, stream, reserve=_INDEX_BYTES_A_FRAME * (len(numbers) + 500))
            stream.flush()
            about = _read_back(Path(stream.name), path, max(copied, len(numbers)))
    except OSError as error:
        # FFmpeg's errors are, too
        raise explained(error, path) from error
    return {"file": path.name, "frames": copied, **about}


def _remux(path: Path, stream: IO[bytes], reserve: int) -> int:
    """Copy the encoded frames of `path` into an ordinary file, and return how many there are."""
    import av

    name = CONTAINERS[path.suffix.lower()].name
    options = {"moov_size": str(reserve)} if name == "mp4" else {}
    count = 0
    with av.open(str(path)) as source, av.open(stream, "w", format=name, options=options) as target:
        given = source.streams.video[0]
        made = target.add_stream_from_template(given)
        made.time_base = given.time_base
        target.metadata.update(source.metadata)
        intra = given.codec_context.name in ("ffv1", "mjpeg")
        for packet in iter_packets(source, given):
            if intra:
                packet.is_keyframe = True  # without an index, nothing says so
            packet.stream = made
            target.mux(packet)
            count += 1
    return count


def _read_back(beside: Path, path: Path, frames: int) -> dict[str, Any]:
    """Return what the finished file says about itself, if it holds what it should."""
    with VideoReader(beside) as reader:
        if len(reader) != frames:
            raise WriteError(
                f"{path}: {len(reader)} frames can be read back, {frames} were written. The file "
                "is left as it is; what the journal names can be looked up there."
            )
        padded = tuple(reader.about.get("padded", reader.padded))
        if reader.padded != padded:
            raise WriteError(
                f"{path}: the video is {reader.padded}, the frames were {padded} (y, x). The file "
                "is left as it is."
            )
        try:
            for number in {0, frames - 1}:
                reader.read(number)
        except CorruptRecordingError as error:
            raise WriteError(f"{path}: {error}") from error
        return reader.about
