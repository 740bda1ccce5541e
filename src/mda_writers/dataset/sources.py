"""Where frames come from: what every kind of file offers to `Dataset`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mda_writers.model.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    import numpy as np

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.runs import Slots

MISSING = -1
"""The slot of a place where there is no frame."""

LEFT_OUT = -3
"""The slot of a frame that came and was not to be kept (``save_frame``): it is not missing."""

Frame = tuple[str, tuple[int, ...]]
"""A frame: its image's key, and its place within the image."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known about a recording as a whole, at one moment.

    Attributes
    ----------
    layout : Layout
        Its images, their sizes as far as they are known.
    summary_metadata : dict
        The ``SummaryMetaV1``, or what the file itself says where it is from elsewhere.
    sequence : dict or None
        The ``MDASequence``, as JSON, where there was one.
    report : dict or None
        The report of a recording that has ended.
    complete : bool
        Whether every planned frame is on disk.
    lost : tuple of dict
        Coordinates of frames that belong here, and whose image has no file at all.
    """

    layout: Layout = field(default_factory=Layout)
    summary_metadata: dict[str, Any] = field(default_factory=dict)
    sequence: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    complete: bool = True
    lost: tuple[dict[str, Any], ...] = ()


class PixelSource(Protocol):
    """Pixels by slot."""

    def slots(self, key: str) -> Slots:
        """Return the slot of every place of an image: negative where there is no frame.

        `MISSING` or `LEFT_OUT`, that is. Any other slot is whatever number `read` takes;
        consecutive slots are read fastest.
        """

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return the frames of some slots (one dimension), ``(n, y, x)`` or ``(n, y, x, 3)``.

        The result is an array of the caller's own, or a view of a file that cannot be written to.
        """

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every resolution that is stored, the full one first."""


class FrameSource(PixelSource, Protocol):
    """One recording, finished or not, ours or somebody else's.

    One whose levels have fewer planes along z says so by ``level_depths(image)``.
    """

    @property
    def contents(self) -> Contents:
        """What is known by now."""

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return what is known about one frame."""

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame."""

    def lost(self, image: ImageLayout) -> Set[tuple[int, ...]]:
        """Return the places of an image whose frames were stored, and whose file is gone.

        Or another recording's file has taken its place.
        """

    def refresh(self) -> list[Frame]:
        """Look for news; return the frames that came, in order of arrival."""

    def is_live(self) -> bool:
        """Whether more may come: the recording has not ended, and its writer lives."""

    def close(self) -> None:
        """Let go of all files."""


class Planes(Protocol):
    """The pixels of a recording of ours, whose frames and metadata the journal knows."""

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return what `read` takes, from every frame's number in its file.

        Negative numbers, where there is no frame, stay as they are.
        """

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """As in `FrameSource`."""

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """As in `FrameSource`."""

    def close(self) -> None:
        """Let go of all files."""
