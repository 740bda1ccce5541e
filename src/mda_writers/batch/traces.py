"""Mean brightness of regions over time, and its change relative to a baseline."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np

from mda_writers.batch.api import Running, run_each
from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.jobs import Operation
from mda_writers.batch.replay import blocks_in, opened, planes_in
from mda_writers.errors import options_checked
from mda_writers.model.encode import csv_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mda_writers.batch.executor import Summary, Workers
    from mda_writers.dataset.source import FrameSource
    from mda_writers.model.frame import FrameRange


TIMES = ("runner_time_ms", "unix_time_s")
"""Columns with the time of a frame: since the beginning of the run, and since 1970."""

Box = tuple[int, int, int, int]
"""Rows and columns: ``(y_begin, y_end, x_begin, x_end)``, the ends not included."""

WHOLE = "mean"
"""Name of the one region where none was given."""


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
class Trace(Operation):
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

    def can_share(self, inputs: Sequence[Path], output: Path) -> bool:
        """Return True: a row is about a frame."""
        return True

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Write the table, and say what is missing."""
        with (
            opened(inputs[0]) as dataset,
            result.open("w", encoding="utf-8", newline="") as stream,
        ):
            names = (*dataset.axes, *TIMES, *Regions.load(self.boxes, self.labels).names())
            _csv(stream).writerow([csv_cell(name) for name in names])
            coordinates = iter(dataset.image_coordinates)
            calls = [
                (dataset.source, block, list(islice(coordinates, block.end - block.begin)))
                for block in blocks_in(dataset.source)
            ]
            stream.writelines(workers.map(self._rows, calls))
            missing = len(dataset.missing)
            return f"{missing} frames were missing" if missing else ""

    def _rows(
        self, source: FrameSource, block: FrameRange, coordinates: Sequence[Mapping[str, Any]]
    ) -> str:
        """Return the rows of a block of frames."""
        rows = StringIO(newline="")
        table, regions = _csv(rows), Regions.load(self.boxes, self.labels)
        image = source.contents.layout.image(block.key)
        planes = planes_in(source, image, block.begin, block.end)
        for where, plane in zip(coordinates, planes, strict=True):
            ours = plane.metadata.get("mda_writers") or {}
            times = [plane.metadata.get("runner_time_ms", ""), ours.get("unix_time_s", "")]
            cells = [*where.values(), *times, *regions.means(plane.pixels)]
            table.writerow([csv_cell(value) for value in cells])
        return rows.getvalue()


def _csv(stream: IO[str]) -> Any:
    return csv.writer(stream, lineterminator="\n")


@options_checked("dff", also=Running.__annotations__)
def dff(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    percentile: float,
    window_frames: int | None = None,
    offset: float = 0.0,
    **running: Unpack[Running],
) -> Summary:
    """Write ΔF/F of traces, as CSV.

    For each region, and for each channel, plane and position by itself, along t::

        ΔF/F(t) = (F(t) - F0(t)) / (F0(t) - offset)

    F0(t), the baseline, is the given percentile of F: of the whole trace, or of the
    ``window_frames`` frames around t (fewer at both ends). Where F0 is not above the offset there
    is no ΔF/F, and the cell is empty.

    A low percentile within some seconds around each time point is the baseline of Dombeck,
    Khabbaz, Collman, Adelman and Tank, Neuron 56 (2007) 43-57: the 8th within 15 s before and
    after. Others define F0 otherwise; Jia, Rochefort, Chen and Konnerth, Nature Protocols 6 (2011)
    28-35, take the minimum of the smoothed trace, which this function does not. Which percentile
    and window are right depends on the indicator and on how often cells are active: there is no
    default for what decides the result. The offset is taken off F and F0 alike, so that it is in
    the denominator only.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Traces that `trace` wrote.
    output : path-like
        As for `convert`; results are ``<name>_dff.csv``.
    percentile : float
        0 to 100.
    window_frames : int, optional
        Frames of the window, an odd number; by default the whole trace.
    offset : float
        What the camera gives in the dark.
    **running
        As for `convert`: ``overwrite``, ``workers``, ``client``, ``scheduler``, ``progress``.

    Raises
    ------
    FileNotFoundError, ValueError
        If inputs or parameters make no sense; nothing is done then.
    BatchError
        If any trace failed; all others were done.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile is between 0 and 100, not {percentile}.")
    if window_frames is not None and (window_frames < 1 or window_frames % 2 == 0):
        raise ValueError(f"window_frames is an odd number from 1 on, not {window_frames}.")
    if not isfinite(offset):
        raise ValueError(f"offset is a number, not {offset}.")
    process = DeltaF(float(percentile), window_frames, float(offset))
    return run_each(process, find_inputs(_tables(inputs)), output, "_dff.csv", running)


def delta_f_over_f(
    trace: np.ndarray, percentile: float, window_frames: int | None, offset: float
) -> np.ndarray:
    """Return ΔF/F of one trace; NaN where the baseline is not above the offset. See `dff`."""
    if window_frames is None:
        baseline = np.full(len(trace), np.percentile(trace, percentile))
    else:
        half = window_frames // 2
        windows = (trace[max(0, t - half) : t + half + 1] for t in range(len(trace)))
        baseline = np.array([np.percentile(window, percentile) for window in windows])
    above = baseline - offset
    change = np.full(len(trace), np.nan)
    np.divide(trace - baseline, above, out=change, where=above > 0)
    return change


@dataclass(frozen=True, slots=True)
class DeltaF(Operation):
    """Writes ΔF/F of a table of traces."""

    name: ClassVar[str] = "dF/F"

    percentile: float
    window_frames: int | None
    offset: float

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the baseline is, and the formula."""
        return {
            "percentile": self.percentile,
            "window_frames": self.window_frames,
            "offset": self.offset,
            "formula": "(F - F0) / (F0 - offset)",
        }

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Write the table: the rows and columns of the traces, with ΔF/F in place of F."""
        (path,) = inputs
        header, rows = _read(path)
        first = header.index(TIMES[-1]) + 1
        values = np.array([row[first:] for row in rows], float).reshape(len(rows), -1)
        for series in _series(header, rows):
            for region in range(values.shape[1]):
                values[series, region] = delta_f_over_f(
                    values[series, region], self.percentile, self.window_frames, self.offset
                )
        with result.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(header)
            for row, new in zip(rows, values.tolist(), strict=True):
                table.writerow([*row[:first], *("" if v != v else v for v in new)])
        empty = int(np.isnan(values).sum())
        return f"{empty} values without a baseline above the offset" if empty else ""


def _tables(inputs: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return the files meant; of a folder, all traces in it."""
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found: list[Path] = []
    for path in map(Path, given):
        inside = sorted(path.rglob("*_traces.csv")) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(f"{path}: no table of traces there; `trace` writes them.")
        found += inside
    return found


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream)) or [[]]
    if TIMES[-1] not in header or header[-1] == TIMES[-1]:
        raise ValueError(f"{path}: not a table of traces; `trace` writes them.")
    return header, rows


def _series(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return the rows that belong together, in the order of t."""
    axes = list(header[: header.index(TIMES[0])])
    t = axes.index("t") if "t" in axes else None
    series: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        series[tuple(row[n] for n in range(len(axes)) if n != t)].append(number)
    if t is None:
        return list(series.values())
    return [sorted(some, key=lambda number: int(rows[number][t])) for some in series.values()]


@dataclass(frozen=True, slots=True)
class Regions:
    """Boxes by name, or the labels of an image.

    Parameters
    ----------
    boxes : mapping
        Name → box.
    labels : np.ndarray or None
        ``(y, x)`` integers: 0 is no region, every other value one, called ``region_<value>``.
    """

    boxes: Mapping[str, Box]
    labels: np.ndarray | None = None

    @classmethod
    def load(cls, boxes: Mapping[str, Box], labels: Path | None) -> Regions:
        """Return boxes, and the regions of a label image (``.npy``, or TIFF).

        Raises
        ------
        ValueError
            If the file holds no such image, or a box is empty.
        """
        for name, (top, bottom, left, right) in boxes.items():
            if not (0 <= top < bottom and 0 <= left < right):
                raise ValueError(
                    f"Region {name}: no pixel in rows {top} to {bottom}, columns {left} to {right}."
                )
        return cls(dict(boxes), None if labels is None else _read_labels(labels))

    def names(self) -> list[str]:
        """Return the regions' names, in the order of `means`."""
        named = list(self.boxes)
        if self.labels is not None:
            named += [f"region_{value}" for value in self._values()]
        return named or [WHOLE]

    def means(self, frame: np.ndarray) -> list[float]:
        """Return the mean over each region; of colour frames, over all three colours.

        Raises
        ------
        ValueError
            If a region lies outside the frame.
        """
        found = [self._box_mean(name, box, frame) for name, box in self.boxes.items()]
        if self.labels is not None:
            found += self._label_means(frame)
        return found if self.boxes or self.labels is not None else [float(frame.mean(dtype=float))]

    def _box_mean(self, name: str, box: Box, frame: np.ndarray) -> float:
        top, bottom, left, right = box
        if bottom > frame.shape[0] or right > frame.shape[1]:
            raise ValueError(
                f"Region {name} reaches row {bottom} and column {right}; the frame is "
                f"{frame.shape[0]} × {frame.shape[1]}."
            )
        return float(frame[top:bottom, left:right].mean(dtype=float))

    def _label_means(self, frame: np.ndarray) -> list[float]:
        assert self.labels is not None
        if self.labels.shape != frame.shape[:2]:
            raise ValueError(f"The labels are {self.labels.shape}, the frame {frame.shape[:2]}.")
        grey = frame if frame.ndim == 2 else frame.mean(axis=2, dtype=float)
        flat = self.labels.ravel()
        sums = np.bincount(flat, grey.ravel())
        counts = np.bincount(flat)
        return [float(sums[value] / counts[value]) for value in self._values()]

    def _values(self) -> list[int]:
        assert self.labels is not None
        return [int(value) for value in np.unique(self.labels) if value]


def _read_labels(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        labels = np.load(path, allow_pickle=False)
    else:
        import tifffile

        labels = tifffile.imread(path)
    if labels.ndim != 2 or labels.dtype.kind not in "iub" or int(labels.min()) < 0:
        raise ValueError(
            f"{path}: labels are one image (y, x) of whole numbers from 0 on, not "
            f"{labels.shape} {labels.dtype}."
        )
    return np.ascontiguousarray(labels, np.int64)
