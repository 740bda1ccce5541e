"""The final form of a video: an ordinary file with its index, read back before it counts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mda_writers.errors import CorruptRecordingError, DiskFullError, WriteError
from mda_writers.formats.video_container import CONTAINERS
from mda_writers.formats.video_read import VideoReader, about_of, iter_packets, open_video
from mda_writers.storage.atomic import replacing
from mda_writers.storage.failure import explained
from mda_writers.storage.file_system import sync_file
from mda_writers.storage.space import free_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDEX_BYTES_A_FRAME = 32
"""Room reserved in front of an MP4's frames for its index: size, time, place and key flag of a
frame take less. In front, because players of a web page should not have to fetch the end first."""

_logger = logging.getLogger("mda_writers")


def finish_video(path: Path, numbers: Sequence[int]) -> dict[str, Any]:
    """Give a video its ordinary form, and return what is known of it.

    The frames are copied as they are encoded, into a file beside that takes the place of the first
    once it has been read back. Without room for that, the first stays.

    Parameters
    ----------
    path : Path
        The video; nobody else writes to it.
    numbers : sequence of int
        The frames that the journal names.

    Raises
    ------
    WriteError
        If the file does not hold the frames that were written.
    """
    if sorted(numbers) != list(range(len(numbers))):
        raise WriteError(f"{path}: the journal does not name its frames one after the other.")
    about = _made_seekable(path, len(numbers))
    if about is None:
        _logger.warning(
            "%s: there was no room for a second copy, so it keeps the form in which it was "
            "recorded, which holds all frames and plays, but has no index. `ffmpeg -i … -c copy …` "
            "makes one.",
            path,
        )
        about = {"form": "fragments", **_read_back(path, path, len(numbers))}
        sync_file(path)
    return {"file": path.name, **about}


def _made_seekable(path: Path, frames: int) -> dict[str, Any] | None:
    """Give a video its index; None where there is no room for that."""
    import av

    if free_bytes(path.parent) < path.stat().st_size:
        return None
    try:
        with replacing(path) as stream:
            copied = _remux(path, stream, reserve=_INDEX_BYTES_A_FRAME * (frames + 500))
            if copied < frames:
                raise _too_few(path, copied, frames)
            stream.flush()
            return {"form": "ordinary", **_read_back(Path(stream.name), path, max(copied, frames))}
    except CorruptRecordingError as error:
        raise _too_few(path, 0, frames) from error
    except (OSError, av.error.FFmpegError) as error:
        wrapped = explained(_cause(error), path)
        if isinstance(wrapped, DiskFullError):
            return None
        raise wrapped from error


def _cause(error: BaseException) -> OSError:
    """Return what the system said: PyAV raises errors of its own on top of it."""
    found, link = OSError(str(error)), error.__context__
    if isinstance(error, OSError):
        found = error
    while link is not None:
        found = link if isinstance(link, OSError) else found
        link = link.__context__
    return found


def _remux(path: Path, stream: IO[bytes], reserve: int) -> int:
    """Copy the encoded frames of `path` into an ordinary file, and return how many there are."""
    import av

    name = CONTAINERS[path.suffix.lower()].name
    options = {"fflags": "bitexact"}  # the same video twice is the same file twice
    if name == "mp4":
        options["moov_size"] = str(reserve)
    count = 0
    with open_video(path) as source, av.open(stream, "w", format=name, options=options) as target:
        given = source.streams.video[0]
        made = target.add_stream_from_template(given)
        made.time_base = given.time_base
        if about_of(source).get("timing") == "constant":
            made.codec_context.framerate = given.average_rate
        target.metadata.update(source.metadata)
        intra = given.codec_context.name in ("ffv1", "mjpeg")
        for packet in iter_packets(source, given):
            if intra:
                packet.is_keyframe = True  # without an index, nothing says so
            if packet.dts is None:  # none of our codecs shows frames in another order
                packet.dts = packet.pts
            packet.stream = made
            target.mux(packet)
            count += 1
    return count


def _read_back(beside: Path, path: Path, frames: int) -> dict[str, Any]:
    """Return what the finished file says about itself, if it holds what it should."""
    with VideoReader(beside) as reader:
        if len(reader) < frames:
            raise _too_few(path, len(reader), frames)
        padded = tuple(reader.about.get("padded", reader.padded))
        if reader.padded != padded:
            raise WriteError(
                f"{path}: the video is {reader.padded}, the frames were {padded} (y, x). The file "
                "is left as it is."
            )
        try:
            for number in {0, reader.last_key}:
                reader.read(number)
        except CorruptRecordingError as error:
            raise WriteError(f"{path}: {error}") from error
        return {"frames": len(reader), **reader.about}


def _too_few(path: Path, found: int, frames: int) -> WriteError:
    return WriteError(
        f"{path}: {found} frames can be read back, {frames} were written. The file is left as it "
        "is; what the journal names can be looked up there."
    )
