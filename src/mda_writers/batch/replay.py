"""A recording as a stream once more: all of it, a part of it, or all of it without its pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import useq
from pydantic import ValidationError

from mda_writers.batch.new_plan import new_stream, without_images
from mda_writers.batch.parts import blocks_of
from mda_writers.batch.reading import (
    Plane,
    index_of,
    own_metadata,
    planes_in,
    planes_of,
    times_of,
)
from mda_writers.batch.stored_plan import locator_of
from mda_writers.batch.stream import FrameStream
from mda_writers.dataset.opening import find_recording
from mda_writers.dataset.sidecar_index import SidecarIndex
from mda_writers.errors import WriteError
from mda_writers.model.frame import Frame
from mda_writers.recording.runs import count_frames, dense, frames_at
from mda_writers.recording.stored import StoredRecording
from mda_writers.sinks.sidecar import sidecar_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from mda_writers.batch.parts import Block
    from mda_writers.batch.reading import Place
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout

Entry = tuple[str, dict[str, Any]]
"""The key of a frame's image, and the frame's metadata."""


def stream_of(dataset: Dataset, path: Path) -> FrameStream:
    """Return a recording as a stream of all of its frames."""
    stored = _stored(path)
    layout = dataset.source.contents.layout
    if stored is None:
        filled = {image.key: dense(dataset.source.slots(image.key)) >= 0 for image in layout.images}
        frames = (_frame(plane) for plane in planes_of(dataset))
        return new_stream(layout, layout.images, filled, dataset.summary_metadata, frames)
    report = stored.report
    left_out = report is None or report.not_saved > 0
    flags = [_saved(frame) for _, frame in _in_order(stored)] if left_out else None
    return FrameStream(
        header=stored.header,
        layout=without_images(layout),
        frames=_frames(dataset, stored, _in_order(stored)),
        flags=None if flags is None or all(flags) else flags,
        skipped=report.skipped if report else (),
        cut_short=report is None or report.canceled or bool(report.error),
    )


def blocks_to_replay(
    dataset: Dataset, path: Path, step: Callable[[ImageLayout], int]
) -> list[Block]:
    """Return the parts of a recording, each some frames of one image in the order they came.

    Parameters
    ----------
    dataset : Dataset
        The recording.
    path : Path
        Where it is.
    step : callable
        The frames of an image that had better not be divided.

    Returns
    -------
    list of Block
        Empty where a part would not know the places of its frames: the plan is unknown, frames
        were left out, or a camera has images of its own.
    """
    images = dataset.source.contents.layout.images
    if any("cam" in image.index for image in images):
        return []
    stored = _stored(path)
    if stored is None:
        counts = {i.key: count_frames(dataset.source.slots(i.key)) for i in images}
    elif _is_simple(stored):
        counts = SidecarIndex(sidecar_path(stored.path)).counts()
    else:
        return []
    return [
        block
        for image in images
        for block in blocks_of(image.key, counts[image.key], image.frame_bytes, step(image))
    ]


def part_of(dataset: Dataset, path: Path, block: Block) -> FrameStream:
    """Return the stream of a part: the plan of the whole, and the frames of a block."""
    stored = _stored(path)
    frames: Iterator[Frame]
    if stored is None:
        image = dataset.source.contents.layout.image(block.key)
        frames = (_frame(plane) for plane in planes_in(dataset, image, block.begin, block.end))
    else:
        index = SidecarIndex(sidecar_path(stored.path))
        entries = index.frames_between(block.key, block.begin, block.end)
        frames = _frames(dataset, stored, entries)
    return replace(stream_of(dataset, path), frames=frames)


def without_pixels(
    dataset: Dataset, path: Path, written: Mapping[str, Iterator[Mapping[str, Any]]]
) -> FrameStream:
    """Return the stream of all frames, with what was written of them instead of their pixels.

    Parameters
    ----------
    dataset, path
        The recording.
    written : mapping
        Key → what this package knows of each written frame, in the order they came.
    """
    return replace(stream_of(dataset, path), frames=_checked(dataset, path, written))


def _stored(path: Path) -> StoredRecording | None:
    main = find_recording(path)
    return None if main is None else StoredRecording.find(main)


def _is_simple(stored: StoredRecording) -> bool:
    """Whether each frame's place is known without those before it, and all were kept."""
    return (
        stored.report is not None
        and not stored.report.not_saved
        and sidecar_path(stored.path).exists()
        and not locator_of(stored.header, stored.path.name).open_ended
    )


def _in_order(stored: StoredRecording) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the key and the metadata of every frame on record, in the order of acquisition."""
    if sidecar_path(stored.path).exists():
        return SidecarIndex(sidecar_path(stored.path)).frames_in_order()
    return stored.frames()


def _frames(dataset: Dataset, stored: StoredRecording, entries: Iterable[Entry]) -> Iterator[Frame]:
    source = dataset.source
    images = {image.key: image for image in source.contents.layout.images}
    for key, metadata in entries:
        ours = metadata["mda_writers"]
        image = images.get(key) or stored.images.get(key)
        if image is None and _saved(metadata):
            raise WriteError(f"{stored.path}: a frame of an image {key!r} that is not on record.")
        if _saved(metadata):
            slot = source.slots(key)[tuple(ours["place"])]
            # a copy: a view of a map would keep its file open as long as the frame waits
            pixels = np.array(source.read(images[key], np.array([slot]))[0])
        else:
            # left out when it was recorded: only that it came is known
            pixels = _no_pixels(image or next(iter(images.values())))
        yield _again(pixels, metadata)


def _checked(
    dataset: Dataset, path: Path, written: Mapping[str, Iterator[Mapping[str, Any]]]
) -> Iterator[Frame]:
    for key, place, frame in _bare(dataset, path):
        ours = next(written[key], None)
        if ours is None or tuple(ours["place"]) != place:
            raise WriteError(
                f"{path}: the frame of image {key!r} at {place} has another place in its part. "
                "Convert the recording as a whole, with workers=1 and without a cluster."
            )
        yield replace(frame, xxh3_64=ours["xxh3_64"])


def _bare(dataset: Dataset, path: Path) -> Iterator[tuple[str, Place, Frame]]:
    """Yield every frame without its pixels, with its image's key and its place there."""
    stored, source = _stored(path), dataset.source
    if stored is not None:
        for key, metadata in _in_order(stored):
            pixels = _no_pixels(source.contents.layout.image(key))
            yield key, tuple(metadata["mda_writers"]["place"]), _again(pixels, metadata)
        return
    for image in source.contents.layout.images:
        for where in frames_at(source.slots(image.key)):
            place = tuple(map(int, where))
            plane = Plane(image, place, _no_pixels(image), source.metadata(image, place))
            yield image.key, place, _frame(plane)


def _no_pixels(image: ImageLayout) -> np.ndarray:
    """Return zeros that need no memory."""
    return np.broadcast_to(np.zeros((), image.dtype), image.frame_shape)


def _again(pixels: np.ndarray, metadata: Mapping[str, Any]) -> Frame:
    index = metadata["mda_writers"]["index"]
    return Frame(pixels, index, own_metadata(metadata), _event(metadata), **times_of(metadata))


def _frame(plane: Plane) -> Frame:
    index = index_of(plane.image, plane.place)
    return Frame(
        np.array(plane.pixels), index, own_metadata(plane.metadata), **times_of(plane.metadata)
    )


def _saved(metadata: Mapping[str, Any]) -> bool:
    return bool(metadata["mda_writers"].get("saved", True))


def _event(metadata: Mapping[str, Any]) -> useq.MDAEvent | None:
    try:
        return useq.MDAEvent.model_validate(metadata["mda_event"])
    except (KeyError, ValidationError):
        return None
