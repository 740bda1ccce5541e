"""A recording that exists is written once more, as if its frames came from a camera."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import useq
from pydantic import ValidationError

from mda_writers.dataset.opening import find_recording, open_dataset
from mda_writers.errors import WriteError
from mda_writers.model.encode import to_json
from mda_writers.model.frame import Frame, blocks_of
from mda_writers.model.microscope import Camera
from mda_writers.model.plan import PlannedImage, image_index
from mda_writers.model.slots import count_frames, dense, frames_at, slots_at
from mda_writers.recording.files import StoredRecording, sidecar_path
from mda_writers.recording.recover import CAMERAS, PLANNED, locator_of, planned_entry, sequence_of
from mda_writers.recording.sidecar import SidecarIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.dataset.dataset import Dataset
    from mda_writers.dataset.source import FrameSource
    from mda_writers.model.frame import FrameRange
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.base import MDAWriter


Entry = tuple[str, dict[str, Any]]
"""The key of a frame's image, and the frame's metadata."""

BLOCK_BYTES = 64 << 20
"""Bytes of frames read at once from files that are not ours: chunks there may hold many."""

Place = tuple[int, ...]

QUEUE_BYTES = 64 << 20
"""Bytes of frames that may wait for the disk: several jobs run at once."""


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


def can_be_shared(dataset: Dataset, path: Path) -> bool:
    """Whether frames can be written in any order: their places and their checksums are known.

    They are not where the plan is unknown, frames were left out, a camera has images of its own,
    the frames are those of a lossy video, or the recording is a third-party file.
    """
    stored = _stored(path)
    if (
        stored is None
        or stored.report is None
        or stored.report.not_saved
        or not sidecar_path(stored.path).exists()
        or locator_of(stored.header, stored.path.name).open_ended
        or any("cam" in image.index for image in dataset.source.contents.layout.images)
    ):
        return False
    _, first = next(_in_order(stored), ("", {}))
    return bool(first) and not first["mda_writers"].get("lossy")


def without_pixels(dataset: Dataset, path: Path) -> FrameStream:
    """Return the stream of all frames with their checksums instead of their pixels."""
    stored = _stored(path)
    assert stored is not None  # see `can_be_shared`
    layout = dataset.source.contents.layout
    frames = (
        replace(
            _again(_no_pixels(layout.image(key)), metadata),
            xxh3_64=metadata["mda_writers"]["xxh3_64"],
        )
        for key, metadata in _in_order(stored)
    )
    return replace(stream_of(dataset, path), frames=frames)


def _stored(path: Path) -> StoredRecording | None:
    main = find_recording(path)
    return None if main is None else StoredRecording.find(main)


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


def planes_of(dataset: Dataset) -> Iterator[Plane]:
    """Return every frame that is on disk, image after image, in the order of its axes.

    Never more than `BLOCK_BYTES` of them are in memory, or one frame.
    """
    for image in dataset.source.contents.layout.images:
        yield from planes_in(dataset.source, image, 0, None)


def planes_in(
    source: FrameSource, image: ImageLayout, begin: int, end: int | None
) -> Iterator[Plane]:
    """Return the frames ``begin`` to ``end`` (not included) of those of an image on disk."""
    slots = source.slots(image.key)
    places = frames_at(slots)[begin:end]
    count = max(1, BLOCK_BYTES // max(1, image.frame_bytes))
    for first in range(0, len(places), count):
        block = places[first : first + count]
        pixels = source.read(image, slots_at(slots, block))
        for place, frame in zip(block, pixels, strict=True):
            where = tuple(map(int, place))
            yield Plane(image, where, frame, source.metadata(image, where))


def blocks_in(source: FrameSource) -> list[FrameRange]:
    """Return blocks of the frames on disk of each image."""
    return [
        block
        for image in source.contents.layout.images
        for block in blocks_of(image.key, count_frames(source.slots(image.key)), image.frame_bytes)
    ]


def index_of(image: ImageLayout, place: Iterable[int]) -> dict[str, int]:
    """Return the index of a place: that of its image, and that within it."""
    return {**image.index, **dict(zip(image.sizes, place, strict=True))}


def times_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clock times of a frame as `Frame` takes them; nothing where none are known."""
    ours = metadata.get("mda_writers") or {}
    return {name: ours[name] for name in ("unix_time_s", "monotonic_s") if name in ours}


def own_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return a frame's metadata as JSON, without what was added about its old place."""
    return to_json({name: value for name, value in metadata.items() if name != "mda_writers"})


@dataclass(frozen=True, slots=True)
class FrameStream:
    """What a writer needs to make a recording again.

    Attributes
    ----------
    header : dict
        ``sequence`` and ``summary_metadata``, ``direct`` or ``planned_images``: the plan.
    layout : Layout
        What all images have in common; the images come from the plan.
    frames : iterator of Frame
        In the order in which they were taken; each is read when it is asked for.
    flags : sequence of bool or None
        Which of them were kept, if not all were.
    skipped : sequence of dict
        Indices of events that gave no frame.
    cut_short : bool
        Whether more was to come: the run was cancelled, failed, or was killed.
    """

    header: Mapping[str, Any]
    layout: Layout
    frames: Iterator[Frame]
    flags: Sequence[bool] | None = None
    skipped: Sequence[Mapping[str, int]] = field(default_factory=tuple)
    cut_short: bool = False


def write_stream(
    stream: FrameStream,
    new_writer: Callable[..., MDAWriter],
    path: Path,
    options: Mapping[str, Any],
) -> RecordingReport:
    """Write a recording of all frames of `stream`, and return its report.

    Names, times and metadata of the frames are those that they had. ``new_writer(path,
    **options)`` makes the writer, as the class of one does.

    Raises
    ------
    WriteError
        If writing failed.
    ValueError
        If the writer does not take one of the options, or not these frames.
    """
    flags = {} if stream.flags is None else {"save_frame": stream.flags}
    # with a core of its own, a failure cannot cancel what the microscope is doing meanwhile
    writer = new_writer(
        path, core=_NO_MICROSCOPE, **{"queue_bytes": QUEUE_BYTES, **flags, **options}
    )
    writer.current_sequence = sequence_of(stream.header)
    locator = locator_of(stream.header, path.name)
    writer._begin_run(locator, stream.layout, _described(stream.header))
    run = writer._current_run()
    run.tally.canceled = stream.cut_short
    run.tally.skipped += stream.skipped
    run.extra_metadata.update(stream.header.get("extra_metadata") or {})
    try:
        for frame in stream.frames:
            if run.failure is not None:
                raise run.failure
            run.put(frame)
    except BaseException as error:
        run.end_with(WriteError(f"{path}: ended by {type(error).__name__}: {error}"))
        raise
    finally:
        run.finish()
    return writer.result()


def _described(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a header describes the plan, not the file that it was of."""
    kept = ("sequence", "summary_metadata", "direct", PLANNED, CAMERAS)
    return {name: header[name] for name in kept if name in header}


class _Idle:
    """Stands for a runner that runs nothing."""

    def is_running(self) -> bool:
        return False

    def cancel(self) -> None:
        pass


class _NoMicroscope:
    mda = _Idle()


_NO_MICROSCOPE: Any = _NoMicroscope()


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
    return FrameStream(header, without_images(like), frames)


def without_images(layout: Layout) -> Layout:
    """Return what the images of a layout have in common; a plan brings the images."""
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
                z_step_um=image.z_step_um,
                time_interval_s=image.time_interval_s,
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
