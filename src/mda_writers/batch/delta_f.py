"""ΔF/F: the relative change of fluorescence, from traces."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np

from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.process import Process
from mda_writers.batch.starting import Running, run_each
from mda_writers.batch.traces import TIMES
from mda_writers.errors import options_checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mda_writers.batch.summary import Summary


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
class DeltaF(Process):
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

    def run(self, inputs: Sequence[Path], result: Path) -> str:
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
