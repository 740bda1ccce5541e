"""The frames of a recording as columns of numbers: a million of them take 50 MB, not a gigabyte."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_FRAMES = 2_000_000
"""Frames whose metadata is read; a page about more says so."""

MOST_ENTRIES = 300
"""Frames whose whole metadata is on the page, evenly spaced over the recording."""


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """What is known of each frame, in order of arrival.

    Attributes
    ----------
    number : np.ndarray
        The frame's number in the recording.
    monotonic_s : np.ndarray
        When it was handed over.
    saved : np.ndarray
        Whether its pixels are kept.
    position_um : np.ndarray
        ``(n, 3)``: where the stages were, NaN where nobody asked them.
    index : dict
        Axis → index; −1 where the frame has none.
    image : np.ndarray
        Number of its image, in the order of `keys`.
    keys : list of str
        The images' keys.
    entries : list of dict
        The whole metadata of some frames.
    cut : bool
        Whether there are more frames than were read.
    """

    number: np.ndarray
    monotonic_s: np.ndarray
    saved: np.ndarray
    position_um: np.ndarray
    index: dict[str, np.ndarray]
    image: np.ndarray
    keys: list[str]
    entries: list[dict[str, Any]]
    cut: bool = False

    def __len__(self) -> int:
        return len(self.number)


def read_columns(frames: Iterable[tuple[str, Mapping[str, Any]]]) -> FrameColumns:
    """Return the columns of `frames` (key and metadata of each), sorted by their numbers."""
    growing = _Growing()
    frames = iter(frames)
    for key, frame in islice(frames, MOST_FRAMES):
        growing.take(key, frame)
    return growing.columns(cut=next(frames, None) is not None)


@dataclass(slots=True)
class _Growing:
    """The columns while they are read."""

    number: array[int] = field(default_factory=lambda: array("q"))
    time: array[float] = field(default_factory=lambda: array("d"))
    saved: array[int] = field(default_factory=lambda: array("b"))
    image: array[int] = field(default_factory=lambda: array("l"))
    position: array[float] = field(default_factory=lambda: array("f"))
    index: dict[str, array[int]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    every: int = 1

    def take(self, key: str, frame: Mapping[str, Any]) -> None:
        """Append one frame."""
        ours = frame["mda_writers"]
        self._keep_entry(frame)
        self._take_index(ours["index"])
        self.number.append(ours["number"])
        self.time.append(ours["monotonic_s"])
        self.saved.append(ours.get("saved", True))
        self.image.append(self.keys.setdefault(key, len(self.keys)))
        stages = frame.get("position")
        stages = stages if isinstance(stages, dict) else {}
        self.position.extend(_float(stages.get(axis)) for axis in "xyz")

    def columns(self, cut: bool) -> FrameColumns:
        """Return what was taken, in order of arrival."""
        number = np.array(self.number, np.int64)
        order = np.argsort(number, kind="stable")
        return FrameColumns(
            number=number[order],
            monotonic_s=np.array(self.time, np.float64)[order],
            saved=np.array(self.saved, bool)[order],
            position_um=np.array(self.position, np.float32).reshape(-1, 3)[order],
            index={axis: np.array(c, np.int32)[order] for axis, c in self.index.items()},
            image=np.array(self.image, np.int32)[order],
            keys=list(self.keys),
            entries=sorted(self.entries, key=lambda e: int(e["mda_writers"]["number"])),
            cut=cut,
        )

    def _take_index(self, index: Mapping[str, int]) -> None:
        taken = len(self.number)
        for axis in index:
            if axis not in self.index:
                self.index[axis] = array("i", [-1]) * taken
        for axis, column in self.index.items():
            column.append(index.get(axis, -1))

    def _keep_entry(self, frame: Mapping[str, Any]) -> None:
        """Keep one frame in `every`, which doubles whenever there are too many."""
        if len(self.number) % self.every == 0:
            self.entries.append(dict(frame))
        if len(self.entries) > MOST_ENTRIES:
            del self.entries[1::2]
            self.every *= 2


def _float(value: Any) -> float:
    return value if isinstance(value, int | float) else float("nan")
