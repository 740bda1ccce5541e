"""Merge: recordings of one position each, as one recording of several positions."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from mda_writers.batch.api import Running, run
from mda_writers.batch.conversion import checked_report
from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.jobs import Operation
from mda_writers.batch.replay import (
    index_of,
    new_stream,
    opened,
    own_metadata,
    planes_of,
    times_of,
    write_stream,
)
from mda_writers.errors import options_checked
from mda_writers.model.frame import Frame
from mda_writers.model.names import split_suffix
from mda_writers.model.slots import dense
from mda_writers.writers import check_options, writer_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.executor import Summary, Workers
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.model.layout import ImageLayout


@options_checked("merge", also=Running.__annotations__)
def merge(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    names: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    **running: Unpack[Running],
) -> Summary:
    """Merge recordings into one, position after position in the order given.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Recordings, or folders that hold some. One that has several positions brings them all.
    output : path-like
        The result.
    names : sequence of str, optional
        A name for each input's position; by default those that positions have, or the files'.
    options : mapping, optional
        Those of the format's writer.
    **running
        As for `convert`: ``overwrite``, ``workers``, ``client``, ``scheduler``, ``progress``.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If inputs or options make no sense; nothing is done then.
    BatchError
        If they could not be merged.
    """
    paths = tuple(path for path, _ in find_inputs(inputs))
    if names is not None and len(names) != len(paths):
        raise ValueError(f"names has {len(names)} names for {len(paths)} recordings.")
    target = Path(output).expanduser().absolute()
    process = Merge(None if names is None else tuple(names), dict(options or {}))
    check_options(target, process.options)
    return run(process, [(paths, target)], running)


@dataclass(frozen=True, slots=True)
class Merge(Operation):
    """Writes several recordings as the positions of one."""

    name: ClassVar[str] = "merge"

    names: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Names, and the writer's options."""
        return {"names": self.names, "options": dict(self.options)}

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Write it, and say what is missing."""
        with ExitStack() as stack:
            datasets = [stack.enter_context(opened(path)) for path in inputs]
            _check_alike(datasets)
            parts = _parts(datasets, inputs, self.names)
            images = [image for part in parts for image in part.images.values()]
            filled = {
                image.key: dense(part.dataset.source.slots(key)) >= 0
                for part in parts
                for key, image in part.images.items()
                if part.dataset.complete
            }
            stream = new_stream(
                datasets[0].source.contents.layout,
                images,
                filled,
                {"merged_from": [str(path) for path in inputs]},
                (frame for part in parts for frame in part.frames()),
            )
            on_disk = sum(len(dataset.image_coordinates) for dataset in datasets)
            report = write_stream(stream, writer_for(result), result, self.options)
        return checked_report(report, on_disk, result)


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the recordings, and what its images become: old key → new image."""

    dataset: Dataset
    images: dict[str, ImageLayout]

    def frames(self) -> Iterator[Frame]:
        for plane in planes_of(self.dataset):
            index = index_of(self.images[plane.image.key], plane.place)
            times = times_of(plane.metadata)
            yield Frame(plane.pixels, index, own_metadata(plane.metadata), **times)


def _parts(
    datasets: Sequence[Dataset], paths: Sequence[Path], names: Sequence[str] | None
) -> list[_Part]:
    parts: list[_Part] = []
    positions: dict[tuple[int, int], int] = {}
    for number, (dataset, path) in enumerate(zip(datasets, paths, strict=True)):
        images = {}
        layouts = dataset.source.contents.layout.images
        for image in layouts:
            p = positions.setdefault((number, image.index.get("p", 0)), len(positions))
            alone = len(layouts) == 1
            own = image.name if not alone or image.index else split_suffix(path.name)[0]
            name = own if names is None else f"{names[number]}{'' if alone else f'_{own}'}"
            images[image.key] = replace(
                image, key=f"{number}/{image.key}", name=name, index={**image.index, "p": p}
            )
        parts.append(_Part(dataset, images))
    return parts


def _check_alike(datasets: Sequence[Dataset]) -> None:
    """Refuse to give recordings one pixel size that have different ones."""
    for name in ("pixel_size_um", "voxel_size_um"):
        found = {getattr(dataset, name): dataset.path for dataset in datasets}
        if len(found) > 1:
            told = "; ".join(f"{path}: {value}" for value, path in found.items())
            raise ValueError(f"They differ in {name}, which a recording has once: {told}.")
