"""Project: the brightest value of every pixel along some axes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from mda_writers.batch.conversion import checked_report
from mda_writers.batch.outputs import check_options, writer_for
from mda_writers.batch.reading import index_of, opened, own_metadata, planned_like, times_of
from mda_writers.batch.starting import Running, run_each
from mda_writers.batch.stream import FrameStream, write_stream
from mda_writers.model.frame import Frame
from mda_writers.model.layout import AXES, Channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.summary import Summary
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout

FRAMES_LISTED = 1000
"""Of a projected frame, how many of the frames it is made of are named in its metadata."""


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
    metadata is that of the first of them, with ``projected_frames``: the indices of all. One
    projection and one frame are in memory at a time.

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
    return run_each(process, inputs, output, suffix, running, check=check)


@dataclass(frozen=True, slots=True)
class Project:
    """Writes the maxima of a recording along some axes."""

    axes: str
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = "max projection"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Axes, and the writer's options."""
        return {"axes": self.axes, "options": dict(self.options)}

    def further_inputs(self) -> Sequence[Path]:
        """Nothing more is read."""
        return ()

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Write them, and say what is missing."""
        (path,) = inputs
        with opened(path) as dataset:
            layout = dataset.source.contents.layout
            images = [_without(image, self.axes) for image in layout.images]
            filled = _filled(dataset, self.axes) if dataset.complete else {}
            stream = FrameStream(
                header={
                    "summary_metadata": dataset.summary_metadata,
                    **planned_like(images, filled),
                },
                layout=replace(layout, images=(), plate={}, selective=False),
                frames=_maxima(dataset, self.axes),
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
            (source.slots(image.key) >= 0).any(
                axis=tuple(n for n, axis in enumerate(image.sizes) if axis in axes)
            )
        )
        for image in source.contents.layout.images
    }


def _maxima(dataset: Dataset, axes: str) -> Iterator[Frame]:
    source = dataset.source
    for image in source.contents.layout.images:
        slots = source.slots(image.key)
        for places in _groups(slots, image, axes):
            largest = _maximum(source.read(image, slots[p].reshape(1))[0] for p in places)
            first = source.metadata(image, places[0])
            made_of = [index_of(image, place) for place in places[:FRAMES_LISTED]]
            index = {a: i for a, i in made_of[0].items() if a not in axes}
            about = {**first, "projected_frames": made_of, "projected_axes": axes}
            yield Frame(largest, index, own_metadata(about), **times_of(first))


def _groups(slots: np.ndarray, image: ImageLayout, axes: str) -> Iterator[list[tuple[int, ...]]]:
    """Yield the places of the frames that become one."""
    groups: defaultdict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
    kept = [n for n, axis in enumerate(image.sizes) if axis not in axes]
    for place in np.argwhere(slots >= 0):
        groups[tuple(int(place[n]) for n in kept)].append(tuple(map(int, place)))
    yield from groups.values()


def _maximum(frames: Iterator[np.ndarray]) -> np.ndarray:
    largest = np.array(next(frames))
    for frame in frames:
        np.maximum(largest, frame, out=largest)
    return largest
