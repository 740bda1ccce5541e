"""NDTiff, Micro-Manager's own format, through its Python package ndstorage."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mda_writers.bench.contestants.base import Contestant, Job


class NDTiff(Contestant):
    """`NDTiffDataset.put_image`: TIFF files of 4 GB, metadata beside each frame."""

    name = "ndtiff"
    label = "NDTiff (ndstorage)"
    keeps_metadata = True
    needs = ("ndstorage",)

    def run(self, job: Job) -> None:
        """Put the images."""
        import ndstorage

        dataset = ndstorage.NDTiffDataset(str(job.path), name="peer", writable=True)
        dataset.initialize({})
        for i, frame in enumerate(job.frames):
            dataset.put_image({"time": i}, frame, job.metadata(i))
        dataset.finish()

    def read(self, path: Path, index: int) -> NDArray[Any]:
        """Return the image as ndstorage reads it."""
        import ndstorage

        folder = next(folder for folder in path.iterdir() if folder.is_dir())
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            dataset = ndstorage.NDTiffDataset(str(folder))
        try:
            return np.asarray(dataset.read_image(time=index))
        finally:
            dataset.close()
