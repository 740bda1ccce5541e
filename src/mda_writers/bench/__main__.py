"""`python -m mda_writers.bench`: the same as `python -m mda_writers bench`."""

from __future__ import annotations

import typer

from mda_writers.bench.command import bench

typer.run(bench)
