"""A recording that has ended, as its ``_recording.json`` tells it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.sidecar_index import SidecarIndex
from mda_writers.dataset.sources import Contents
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.names import OwnNames
from mda_writers.recording.runs import FewSlots, Slots, slots_of
from mda_writers.recording.stored import read_recording
from mda_writers.sinks.sidecar import recording_path, sidecar_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mda_writers.dataset.sources import Frame
    from mda_writers.model.layout import ImageLayout


class FinishedBook:
    """What frames there are, and where; opened in no time however many there are.

    Parameters
    ----------
    path : Path
        The recording's main path.

    Raises
    ------
    CorruptRecordingError
        If its ``_recording.json`` is cut or altered.
    """

    def __init__(self, path: Path) -> None:
        self._path = recording_path(path)
        content, layout, report = read_recording(path)
        self.names = OwnNames.of(content, path)
        layout = replace(layout, images=tuple(map(self.names.image_now, layout.images)))
        self._runs: dict[str, Any] = content["runs"]
        self._slots: dict[str, Slots] = {}
        self._sidecar = SidecarIndex(sidecar_path(path))
        self.header = content
        self.format = str(content["format"])
        self.contents = Contents(
            layout=layout,
            summary_metadata=content.get("summary_metadata") or {},
            sequence=content.get("sequence"),
            report=content["report"],
            complete=report.complete,
        )

    def slots(self, key: str) -> Slots:
        """Return the slot of every place of an image."""
        if key not in self._slots:
            sizes = self.contents.layout.image(key).sizes
            try:
                self._slots[key] = slots_of(sizes, self._runs[key])
            except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
                raise _corrupt(self._path, f"image {key!r}: {error}") from error
        return self._slots[key]

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return what the sidecar says about a frame."""
        slots = self.slots(image.key)
        flat = int(np.ravel_multi_index(place, slots.shape)) if place else 0
        if isinstance(slots, FewSlots):
            before = int(np.searchsorted(slots.places, flat))
        else:
            before = int((slots.ravel()[:flat] >= 0).sum())
        return self._sidecar.find(image.key, place, before)

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return every frame of the sidecar."""
        return self._sidecar.frames()

    def refresh(self) -> list[Frame]:
        """Nothing comes any more."""
        return []

    def is_live(self) -> bool:
        """Tell that it has ended."""
        return False


def _corrupt(path: Path, what: str) -> CorruptRecordingError:
    return CorruptRecordingError(
        f"{path}: cut or altered ({what}). Copy it again if this is a copy. The pixels can be "
        "read without it: move it away, and open the image files one by one."
    )
