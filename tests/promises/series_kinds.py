"""File series, read by tifffile, for the promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mda_writers import TiffSeriesWriter
from promises.kind import BigTiff

if TYPE_CHECKING:
    from pathlib import Path


class FirstRun(TiffSeriesWriter):
    """Takes the name of its first run, as the promises give it."""

    def __init__(self, run: Path, **options: Any) -> None:
        super().__init__(run.parent, ome=True, bigtiff=True, **options)


class TiffSeries(BigTiff):
    """``TiffSeriesWriter``; its files are as small as they come, and many."""

    writer_class = FirstRun
    file_name = "run_000"
