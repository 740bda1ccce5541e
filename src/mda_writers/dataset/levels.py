"""Smaller resolutions: those that are stored, and those computed where none are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mda_writers.formats.pyramid import auto_levels, halve, level_sizes

if TYPE_CHECKING:
    from mda_writers.dataset.sources import PixelSource, Planes
    from mda_writers.model.layout import ImageLayout


def level_shapes(source: PixelSource, image: ImageLayout) -> list[tuple[int, ...]]:
    """Return the frame shape of every level: the stored ones, and halves until one is small."""
    stored = list(source.level_shapes(image))
    smallest, samples = stored[-1][:2], stored[-1][2:]
    further = level_sizes((smallest[0], smallest[1]), auto_levels((smallest[0], smallest[1])))
    return [*stored, *((*yx, *samples) for yx in further[1:])]


def level_depths(source: PixelSource | Planes, image: ImageLayout) -> list[int]:
    """Return the planes along z of every level that is stored; most sources have all in each."""
    planes = image.sizes.get("z", 1)
    of_source = getattr(source, "level_depths", None)
    return list(of_source(image)) if of_source else [planes] * len(source.level_shapes(image))


def read_level(
    source: PixelSource, image: ImageLayout, slots: np.ndarray, level: int
) -> np.ndarray:
    """Return the frames of some slots at a level, computed from a stored one where need be."""
    if level == 0:
        return source.read(image, slots)
    stored = len(source.level_shapes(image)) - 1
    frames = source.read(image, slots, min(level, stored))
    for _ in range(level - stored):
        frames = np.stack([_halved(frame) for frame in frames])
    return frames


def _halved(frame: np.ndarray) -> np.ndarray:
    if frame.ndim == 2:
        return halve(frame)
    return np.stack([halve(frame[..., n]) for n in range(frame.shape[2])], axis=-1)
