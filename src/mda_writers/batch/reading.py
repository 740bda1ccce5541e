"""Recordings as streams: ours in the order of acquisition, others image after image."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import useq
from pydantic import ValidationError

from mda_writers.batch.parts import blocks_of
from mda_writers.batch.stored_plan import planned_entry
from mda_writers.batch.stream import FrameStream
from mda_writers.dataset.opening import find_recording, open_dataset
from mda_writers.dataset.sidecar_index import SidecarIndex
from mda_writers.errors import WriteError
from mda_writers.model.encode import to_json
from mda_writers.model.frame import Frame
from mda_writers.model.plan import PlannedImage, image_index
from mda_writers.model.scope import Camera
from mda_writers.recording.stored import StoredRecording
from mda_writers.sinks.sidecar import sidecar_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mda_writers.batch.parts import Block
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout, Layout

BLOCK_BYTES = 64 << 20
"""Bytes of frames read at once from files that are not ours: chunks there may hold many."""

Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plane:
    """One frame on disk: its image, its place there, its pixels, and what is known about it."""

    image: ImageLayout
    place: Place
    pixels: np.ndarray
    metadata: dict[str, Any]


@contextmanager
def opened(path: Path) -> Iterator[Dataset]:
    """Open a recording that nobody writes to any more.

    Raises
    ------
    WriteError
        If it is still being written.
    FileNotFoundError, CorruptRecordingError
        See `open_dataset`.
    """
    with open_dataset(path) as dataset:
        if dataset.is_live():
            raise WriteError(
                f"{path}: still being written. Try again when the recording has ended."
            )
        yield dataset


def stream_of(dataset: Dataset, path: Path) -> FrameStream:
    """Return a recording as a stream of all of its frames."""
    main = find_recording(path)
    layout = dataset.source.contents.layout
    if main is None:
        filled = {image.key: dataset.source.slots(image.key) >= 0 for image in layout.images}
        frames = (_frame(plane) for plane in planes_of(dataset))
        return new_stream(layout, layout.images, filled, dataset.summary_metadata, frames)
    stored = StoredRecording.find(main)
    report = stored.report
    left_out = report is None or report.not_saved > 0
    flags = [_saved(frame) for _, frame in in_order(stored)] if left_out else None
    return FrameStream(
        header=stored.header,
        layout=_without_images(layout),
        frames=_frames(dataset, stored),
        flags=None if flags is None or all(flags) else flags,
        skipped=report.skipped if report else (),
        cut_short=report is None or report.canceled or bool(report.error),
    )


def planes_of(dataset: Dataset) -> Iterator[Plane]:
    """Return every frame that is on disk, image after image, in the order of its axes.

    Never more than `BLOCK_BYTES` of them are in memory, or one frame.
    """
    for image in dataset.source.contents.layout.images:
        yield from planes_in(dataset, image, 0, None)


def planes_in(dataset: Dataset, image: ImageLayout, begin: int, end: int | None) -> Iterator[Plane]:
    """Return the frames ``begin`` to ``end`` (not included) of those of an image on disk."""
    source = dataset.source
    slots = source.slots(image.key)
    places = np.argwhere(slots >= 0)[begin:end]
    count = max(1, BLOCK_BYTES // max(1, image.frame_bytes))
    for first in range(0, len(places), count):
        block = places[first : first + count]
        pixels = source.read(image, slots[tuple(block.T)].reshape(len(block)))
        for place, frame in zip(block, pixels, strict=True):
            where = tuple(map(int, place))
            yield Plane(image, where, frame, source.metadata(image, where))


def blocks_in(dataset: Dataset) -> list[Block]:
    """Return the parts of a recording: blocks of the frames on disk of each image."""
    source = dataset.source
    return [
        block
        for image in source.contents.layout.images
        for block in blocks_of(
            image.key, int((source.slots(image.key) >= 0).sum()), image.frame_bytes
        )
    ]


def new_stream(
    like: Layout,
    images: Iterable[ImageLayout],
    filled: Mapping[str, np.ndarray],
    summary_metadata: Mapping[str, Any],
    frames: Iterator[Frame],
) -> FrameStream:
    """Return a stream of frames that no plan of their own has led to.

    Parameters
    ----------
    like : Layout
        Of a recording that they have everything but the images in common with.
    images, filled
        What is to be planned; see `planned_like`.
    summary_metadata : mapping
        What there is to be said about the whole.
    frames : iterator of Frame
        The frames.
    """
    header = {"summary_metadata": summary_metadata, **planned_like(images, filled)}
    return FrameStream(header, _without_images(like), frames)


def _without_images(layout: Layout) -> Layout:
    # a plate is told by the sequence, to the formats that know plates
    return replace(layout, images=(), plate={}, selective=False)


def planned_like(images: Iterable[ImageLayout], filled: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the plan of images that exist, as an entry of a header.

    Parameters
    ----------
    images : iterable of ImageLayout
        The images.
    filled : mapping
        Key → the places that there are frames for, where these are all that was planned.
    """
    known = list(images)
    cameras = _cameras(known)
    return planned_entry(
        (
            PlannedImage(
                image_index(image.index),
                image.name.removesuffix(f"_{cameras[0].label}") if cameras else image.name,
                dict(image.sizes),
                {n: (channel.name, channel.group) for n, channel in enumerate(image.channels)},
                image.position_um,
                _indices(filled.get(image.key)),
            )
            for image in known
            if not image.index.get("cam")  # the plan is the same for all cameras
        ),
        cameras,
    )


def _cameras(images: list[ImageLayout]) -> list[Camera]:
    """Return the cameras that have images of their own, if all have."""
    own = {image.index["cam"]: image for image in images if "cam" in image.index}
    if sorted(own) != list(range(len(own))) or not all("cam" in i.index for i in images):
        return []
    return [
        Camera(own[n].channels[0].camera, tuple(own[n].frame_shape), own[n].dtype)
        for n in range(len(own))
    ]


def _indices(filled: np.ndarray | None) -> set[tuple[int, ...]] | None:
    if filled is None or filled.all():
        return None
    return {tuple(map(int, place)) for place in np.argwhere(filled)}


def index_of(image: ImageLayout, place: Iterable[int]) -> dict[str, int]:
    """Return the index of a place: that of its image, and that within it."""
    return {**image.index, **dict(zip(image.sizes, place, strict=True))}


def in_order(stored: StoredRecording) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the key and the metadata of every frame on record, in the order of acquisition."""
    if sidecar_path(stored.path).exists():
        return SidecarIndex(sidecar_path(stored.path)).frames_in_order()
    return stored.frames()


def times_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clock times of a frame as `Frame` takes them; nothing where none are known."""
    ours = metadata.get("mda_writers") or {}
    return {name: ours[name] for name in ("unix_time_s", "monotonic_s") if name in ours}


def own_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return a frame's metadata as JSON, without what was added about its old place."""
    return to_json({name: value for name, value in metadata.items() if name != "mda_writers"})


def _frames(dataset: Dataset, stored: StoredRecording) -> Iterator[Frame]:
    source = dataset.source
    images = {image.key: image for image in source.contents.layout.images}
    for key, metadata in in_order(stored):
        ours = metadata["mda_writers"]
        image = images.get(key) or stored.images.get(key)
        if image is None and _saved(metadata):
            raise WriteError(f"{stored.path}: a frame of an image {key!r} that is not on record.")
        if _saved(metadata):
            slot = source.slots(key)[tuple(ours["place"])]
            pixels = source.read(images[key], np.array([slot]))[0]
        else:
            # left out when it was recorded: only that it came is known
            like = image or next(iter(images.values()))
            pixels = np.broadcast_to(np.zeros((), like.dtype), like.frame_shape)
        yield Frame(
            pixels, ours["index"], own_metadata(metadata), _event(metadata), **times_of(metadata)
        )


def _frame(plane: Plane) -> Frame:
    index = index_of(plane.image, plane.place)
    return Frame(plane.pixels, index, own_metadata(plane.metadata), **times_of(plane.metadata))


def _saved(metadata: Mapping[str, Any]) -> bool:
    return bool(metadata["mda_writers"].get("saved", True))


def _event(metadata: Mapping[str, Any]) -> useq.MDAEvent | None:
    try:
        return useq.MDAEvent.model_validate(metadata["mda_event"])
    except (KeyError, ValidationError):
        return None
