"""Trace: the mean over regions, frame by frame, as a table."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Unpack

from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.process import Process
from mda_writers.batch.reading import blocks_in, opened, planes_in, planes_of
from mda_writers.batch.regions import Regions
from mda_writers.batch.starting import Running, run_each
from mda_writers.errors import options_checked
from mda_writers.model.encode import csv_cell
from mda_writers.recording.runs import count_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.parts import Block
    from mda_writers.batch.reading import Plane
    from mda_writers.batch.regions import Box
    from mda_writers.batch.summary import Summary
    from mda_writers.dataset.dataset import Dataset

TIMES = ("runner_time_ms", "unix_time_s")
"""Columns with the time of a frame: since the beginning of the run, and since 1970."""


@options_checked("trace", also=Running.__annotations__)
def trace(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    regions: Mapping[str, Box] | None = None,
    labels: str | Path | None = None,
    **running: Unpack[Running],
) -> Summary:
    """Write the mean over regions for each frame of recordings, as CSV.

    A row a frame, image after image: its coordinates, its times where they are known, and a
    column for each region. Frames that are missing have no row.

    Parameters
    ----------
    inputs, output
        As for `convert`; results are ``<name>_traces.csv``.
    regions : mapping, optional
        Name → ``(y_begin, y_end, x_begin, x_end)`` in pixels, the ends not included.
    labels : path-like, optional
        A label image, ``.npy`` or TIFF: each of its values but 0 is a region. Without any
        region, the mean is that of the whole frame.
    **running
        As for `convert`: ``overwrite``, ``workers``, ``client``, ``scheduler``, ``progress``.

    Raises
    ------
    FileNotFoundError, ValueError
        If inputs or regions make no sense; nothing is done then.
    BatchError
        If any recording failed; all others were done.
    """
    path = None if labels is None else Path(labels).expanduser().absolute()
    boxes = {name: tuple(box) for name, box in (regions or {}).items()}
    Regions.load(boxes, path)  # type: ignore[arg-type]
    return run_each(Trace(boxes, path), find_inputs(inputs), output, "_traces.csv", running)


@dataclass(frozen=True, slots=True)
class Trace(Process):
    """Writes the means over regions."""

    name: ClassVar[str] = "trace"

    boxes: Mapping[str, Any] = field(default_factory=dict)
    labels: Path | None = None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The boxes; a label image is one of the inputs."""
        return {"regions": dict(self.boxes), "labels": None if self.labels is None else "input"}

    def further_inputs(self) -> Sequence[Path]:
        """Return the label image."""
        return () if self.labels is None else (self.labels,)

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Write the table, and say what is missing."""
        with opened(inputs[0]) as dataset, _new_table(result) as stream:
            self._write_header(dataset, stream)
            self._write_rows(planes_of(dataset), dataset.image_coordinates, stream)
            return _remark(dataset)

    def parts(self, inputs: Sequence[Path], output: Path) -> list[Block]:
        """Return blocks of frames."""
        with opened(inputs[0]) as dataset:
            return blocks_in(dataset)

    def run_part(self, inputs: Sequence[Path], part: Block, target: Path) -> None:
        """Write the rows of a block."""
        with opened(inputs[0]) as dataset, _new_table(target) as stream:
            images = dataset.source.contents.layout.images
            image = dataset.source.contents.layout.image(part.key)
            before = images[: images.index(image)]
            first = sum(count_frames(dataset.source.slots(i.key)) for i in before)
            mine = slice(first + part.begin, first + part.end)
            coordinates = dataset.image_coordinates[mine]
            planes = planes_in(dataset, image, part.begin, part.end)
            self._write_rows(planes, coordinates, stream)

    def join(
        self, inputs: Sequence[Path], parts: Sequence[tuple[Block, Path]], result: Path
    ) -> str:
        """Write the table of all rows."""
        with opened(inputs[0]) as dataset:
            with _new_table(result) as stream:
                self._write_header(dataset, stream)
            with result.open("ab") as table:
                for _, path in parts:
                    with path.open("rb") as rows:
                        shutil.copyfileobj(rows, table)
            return _remark(dataset)

    def _write_header(self, dataset: Dataset, stream: IO[str]) -> None:
        names = Regions.load(self.boxes, self.labels).names()
        _csv(stream).writerow([csv_cell(name) for name in (*dataset.axes, *TIMES, *names)])

    def _write_rows(
        self,
        planes: Iterator[Plane],
        coordinates: Iterable[Mapping[str, Any]],
        stream: IO[str],
    ) -> None:
        table, regions = _csv(stream), Regions.load(self.boxes, self.labels)
        for where, plane in zip(coordinates, planes, strict=True):
            ours = plane.metadata.get("mda_writers") or {}
            times = [plane.metadata.get("runner_time_ms", ""), ours.get("unix_time_s", "")]
            cells = [*where.values(), *times, *regions.means(plane.pixels)]
            table.writerow([csv_cell(value) for value in cells])


def _new_table(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", newline="")


def _csv(stream: IO[str]) -> Any:
    return csv.writer(stream, lineterminator="\n")


def _remark(dataset: Dataset) -> str:
    missing = len(dataset.missing)
    return f"{missing} frames were missing" if missing else ""
