"""The pixels of a file series: a TIFF file for every z-stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.tiff_planes import TiffPlanes
from mda_writers.formats.tiff_series import TiffSeriesFormat, split
from mda_writers.recording.runs import FewSlots

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.runs import Slots


class SeriesPlanes:
    """Reads planes by their place.

    Parameters
    ----------
    folder : Path
        Where the recording is.
    header : mapping
        What the journal's first line says: how the files are named.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._folder = folder
        self._format = TiffSeriesFormat.of_header(header)
        self._files = TiffPlanes(folder)

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return the places, counted in the order of the axes."""
        if isinstance(numbers, FewSlots):
            return FewSlots(numbers.shape, numbers.places, numbers.places)
        return np.where(numbers < 0, numbers, np.arange(numbers.size).reshape(numbers.shape))

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return planes; a view of one file's map where they all lie in it, side by side."""
        sizes = tuple(image.sizes.values())
        places = [tuple(map(int, np.unravel_index(s, sizes))) if sizes else () for s in slots]
        stacks, planes = zip(*(split(image, place) for place in places), strict=True)
        if len(set(stacks)) == 1:
            return self._read(image, stacks[0], np.array(planes))
        frames = np.empty((len(slots), *image.frame_shape), image.dtype)
        for stack in dict.fromkeys(stacks):
            own = np.array([each == stack for each in stacks])
            frames[own] = self._read(image, stack, np.array(planes)[own])
        return frames

    def lost(self, image: ImageLayout, places: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return those of some places whose file is gone."""
        by_stack: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        for place in places:
            by_stack.setdefault(split(image, place)[0], []).append(place)
        folder = self._folder / image.file
        gone = (s for s in by_stack if not self._format.path_of(folder, image, *s).exists())
        return [place for stack in gone for place in by_stack[stack]]

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the full resolution: our TIFF files have no other."""
        return [image.frame_shape]

    def close(self) -> None:
        """Let go of the files."""
        self._files.close()

    def _read(self, image: ImageLayout, stack: tuple[int, int], planes: np.ndarray) -> np.ndarray:
        path = self._format.path_of(self._folder / image.file, image, *stack)
        return self._files.read_file(str(path.relative_to(self._folder)), image, planes)
