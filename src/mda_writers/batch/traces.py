"""Trace: the mean over regions, frame by frame, as a table."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mda_writers.batch.reading import opened, planes_of
from mda_writers.batch.regions import Regions
from mda_writers.batch.starting import Running, run_each

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mda_writers.batch.regions import Box
    from mda_writers.batch.summary import Summary

TIMES = ("runner_time_ms", "unix_time_s")
"""Columns with the time of a frame: since the beginning of the run, and since 1970."""


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
    return run_each(Trace(boxes, path), inputs, output, "_traces.csv", running)


@dataclass(frozen=True, slots=True)
class Trace:
    """Writes the means over regions."""

    boxes: Mapping[str, Any] = field(default_factory=dict)
    labels: Path | None = None
    name: str = "trace"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The boxes; a label image is one of the inputs."""
        return {"regions": dict(self.boxes), "labels": None if self.labels is None else "input"}

    def further_inputs(self) -> Sequence[Path]:
        """Return the label image."""
        return () if self.labels is None else (self.labels,)

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Write the table, and say what is missing."""
        (path,) = inputs
        regions = Regions.load(self.boxes, self.labels)
        with opened(path) as dataset, result.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow([*dataset.axes, *TIMES, *regions.names()])
            rows = zip(dataset.image_coordinates, planes_of(dataset), strict=True)
            for coordinates, plane in rows:
                ours = plane.metadata.get("mda_writers") or {}
                times = [
                    plane.metadata.get("runner_time_ms", ""),
                    ours.get("unix_time_s", ""),
                ]
                table.writerow([*coordinates.values(), *times, *regions.means(plane.pixels)])
            missing = len(dataset.missing)
        return f"{missing} frames were missing" if missing else ""
