"""Project recordings along an axis."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np

from mda_writers.batch.api import Running, run_each
from mda_writers.batch.conversion import checked_report
from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.jobs import Operation
from mda_writers.batch.replay import (
    index_of,
    new_stream,
    opened,
    own_metadata,
    times_of,
    write_stream,
)
from mda_writers.errors import options_checked
from mda_writers.model.frame import Frame
from mda_writers.model.layout import AXES, Channel
from mda_writers.model.slots import dense, frames_at, slots_at
from mda_writers.writers import check_options, writer_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.executor import Summary, Workers
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.dataset.source import FrameSource
    from mda_writers.model.layout import ImageLayout

    _Piece = tuple[int, ImageLayout, np.ndarray]  # the number of its group, and its places


PIECE_BYTES = 128 << 20
"""Bytes of the frames whose maxima are one task: some 0.1 s of work. The maxima of a few tasks are
in memory at once, and of a projection along a short axis they are nearly as large."""

FRAMES_LISTED = 1000
"""Of a projected frame, how many of the frames it is made of are named in its metadata."""


@options_checked("project", also=Running.__annotations__)
def project(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    axes: str = "z",
    suffix: str = ".ome.tiff",
    options: Mapping[str, Any] | None = None,
    **running: Unpack[Running],
) -> Summary:
    """Make maximum projections of recordings.

    A projected frame is the maximum of all frames on disk that differ only along `axes`. Its
    metadata is that of the first of them, with ``projected_frames``: the indices of all. Frames
    are read one at a time.

    Parameters
    ----------
    inputs, output, suffix
        As for `convert`.
    axes : str
        Axes to project along, out of t, c and z.
    options : mapping, optional
        Those of the format's writer.
    **running
        As for `convert`: ``overwrite``, ``workers``, ``client``, ``scheduler``, ``progress``.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If inputs or options make no sense; nothing is done then.
    BatchError
        If any recording could not be projected; all others were.
    """
    if not axes or set(axes) - set(AXES) or len(set(axes)) != len(axes):
        raise ValueError(f"axes is some of t, c and z, each once, not {axes!r}.")
    process = Project(axes, dict(options or {}))
    check = partial(check_options, options=process.options)
    return run_each(process, find_inputs(inputs), output, suffix, running, check=check)


@dataclass(frozen=True, slots=True)
class Project(Operation):
    """Writes the maxima of a recording along some axes."""

    name: ClassVar[str] = "max projection"

    axes: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Axes, and the writer's options."""
        return {"axes": self.axes, "options": dict(self.options)}

    def can_share(self, inputs: Sequence[Path], output: Path) -> bool:
        """Return True: the maximum of maxima is the maximum."""
        return True

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Write them, and say what is missing."""
        with opened(inputs[0]) as dataset:
            maxima = _maxima(dataset, self.axes, workers)
            return self._write(dataset, maxima, inputs[0], result)

    def _write(
        self, dataset: Dataset, maxima: Iterator[np.ndarray], path: Path, result: Path
    ) -> str:
        layout = dataset.source.contents.layout
        groups = groups_of(dataset, self.axes)
        stream = new_stream(
            layout,
            [_without(image, self.axes) for image in layout.images],
            _filled(dataset, self.axes) if dataset.complete else {},
            dataset.summary_metadata,
            (_frame(dataset, *each, self.axes) for each in zip(groups, maxima, strict=True)),
        )
        report = write_stream(stream, writer_for(result), result, self.options)
        missing = len(dataset.missing)
        remark = checked_report(report, 0, path)
        return remark or (f"{missing} frames were missing" if missing else "")


def _without(image: ImageLayout, axes: str) -> ImageLayout:
    """Return the plan of an image's projection."""
    sizes = {axis: n for axis, n in image.sizes.items() if axis not in axes}
    if "c" in axes:  # no channel's name is that of all of them
        cameras = {channel.camera for channel in image.channels}
        camera = cameras.pop() if len(cameras) == 1 else ""
        return replace(image, sizes=sizes, channels=(Channel("", "", camera),))
    return replace(image, sizes=sizes)


def _filled(dataset: Dataset, axes: str) -> dict[str, np.ndarray]:
    """Return for each image where its projection has frames."""
    source = dataset.source
    return {
        image.key: np.asarray(
            (dense(source.slots(image.key)) >= 0).any(
                axis=tuple(n for n, axis in enumerate(image.sizes) if axis in axes)
            )
        )
        for image in source.contents.layout.images
    }


def _frame(dataset: Dataset, group: Group, largest: np.ndarray, axes: str) -> Frame:
    """Return a projected frame, with the metadata of the first of its frames."""
    some = group.places[:FRAMES_LISTED].tolist()
    first = dataset.source.metadata(group.image, tuple(some[0]))
    made_of = [index_of(group.image, place) for place in some]
    index = {a: i for a, i in made_of[0].items() if a not in axes}
    about = {**first, "projected_frames": made_of, "projected_axes": axes}
    return Frame(largest, index, own_metadata(about), **times_of(first))


def _maxima(dataset: Dataset, axes: str, workers: Workers) -> Iterator[np.ndarray]:
    """Yield the maximum of each group."""
    calls = [(dataset.source, pieces) for pieces in _batches(groups_of(dataset, axes))]
    found = chain.from_iterable(workers.map(_maxima_of, calls))
    for _, some in groupby(found, key=itemgetter(0)):
        yield reduce(np.maximum, (largest for _, largest in some))


def _batches(groups: Iterable[Group]) -> Iterator[list[_Piece]]:
    """Yield what is read at once: a piece of a large group, or several small groups."""
    batch: list[_Piece] = []
    nbytes = 0
    for number, group in enumerate(groups):
        frame_bytes = max(1, group.image.frame_bytes)
        step = max(1, PIECE_BYTES // frame_bytes)
        for first in range(0, len(group.places), step):
            places = group.places[first : first + step]
            batch.append((number, group.image, places))
            nbytes += len(places) * frame_bytes
            if nbytes >= PIECE_BYTES:
                yield batch
                batch, nbytes = [], 0
    if batch:
        yield batch


def _maxima_of(source: FrameSource, pieces: Sequence[_Piece]) -> list[tuple[int, np.ndarray]]:
    """Return the maximum of each piece with the number of its group; a frame is read at a time."""
    return [(number, _maximum(source, image, places)) for number, image, places in pieces]


def _maximum(source: FrameSource, image: ImageLayout, places: np.ndarray) -> np.ndarray:
    slots = source.slots(image.key)
    largest: np.ndarray | None = None
    for place in places:
        frame = source.read(image, slots_at(slots, place[None]))[0]
        if largest is None:
            largest = np.array(frame, image.dtype)
        else:
            np.maximum(largest, frame, out=largest)
    assert largest is not None  # a group has frames
    return largest


@dataclass(frozen=True, slots=True)
class Group:
    """Frames of an image that differ only along the axes of a projection."""

    image: ImageLayout
    places: np.ndarray  # (frames, axes), in the order of the axes


def groups_of(dataset: Dataset, axes: str) -> Iterator[Group]:
    """Return the groups of all frames on disk, image after image."""
    source = dataset.source
    for image in source.contents.layout.images:
        slots = source.slots(image.key)
        kept = [n for n, axis in enumerate(image.sizes) if axis not in axes]
        places = frames_at(slots)
        numbers = np.zeros(len(places), np.int64)
        for n in kept:
            numbers = numbers * slots.shape[n] + places[:, n]
        order = np.argsort(numbers, kind="stable")
        places, numbers = places[order], numbers[order]
        begins = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        for begin, end in pairwise([*begins, len(places)]):
            yield Group(image, places[begin:end])
