"""Regions of a frame, and the mean of the pixels in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Box = tuple[int, int, int, int]
"""Rows and columns: ``(y_begin, y_end, x_begin, x_end)``, the ends not included."""

WHOLE = "mean"
"""Name of the one region where none was given."""


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
