"""File series, read by tifffile, for the contracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contracts.kind import BigTiff
from mda_writers import TiffSeriesWriter

if TYPE_CHECKING:
    from pathlib import Path


class FirstRun(TiffSeriesWriter):
    """Takes the name of its first run, as the contracts give it."""

    def __init__(self, run: Path, **options: Any) -> None:
        super().__init__(run.parent, ome=True, bigtiff=True, **options)


class TiffSeries(BigTiff):
    """``TiffSeriesWriter``; its files are as small as they come, and many."""

    writer_class = FirstRun
    file_name = "run_000"
