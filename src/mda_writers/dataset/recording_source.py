"""The recordings of this package as sources of a dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.live import LiveRecording
from mda_writers.dataset.source import Contents
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.base import format_of
from mda_writers.formats.tiff.ome_xml import file_uuid
from mda_writers.formats.tiff.reader import check_uuid
from mda_writers.model.names import OwnNames
from mda_writers.model.slots import FewSlots, Slots, frames_at, slots_of
from mda_writers.recording.files import read_recording, recording_path, sidecar_path
from mda_writers.recording.sidecar import SidecarIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Set
    from pathlib import Path

    from mda_writers.dataset.source import Frame, Planes
    from mda_writers.formats.base import Format
    from mda_writers.model.layout import ImageLayout


_FILES_FIXED = {"bigtiff", "ome-zarr"}
_FILES_KNOWN = {*_FILES_FIXED, "tiff-series", "video"}
"""Formats whose files are local, and named by the recording: while it goes on, and at its end."""


class RecordingSource:
    """Reads a recording at any time of its life; see `FrameSource`.

    Parameters
    ----------
    path : Path
        The recording's main path.
    storage_options : mapping, optional
        For recordings in an object store.

    Raises
    ------
    FileNotFoundError
        If there is no recording.
    CorruptRecordingError
        If what describes it is cut or altered.
    """

    def __init__(self, path: Path, storage_options: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._storage_options = dict(storage_options or {})
        self._files: dict[tuple[str, int], str] = {}
        self._slots: dict[str, Slots] = {}
        self._lost: dict[str, Set[tuple[int, ...]]] = {}
        self._recording: FinishedRecording | LiveRecording = open_recording(path)
        self._planes = self._planes_of(self._recording.format)

    @property
    def contents(self) -> Contents:
        """What is known by now."""
        return self._recording.contents

    def slots(self, key: str) -> Slots:
        """Return the slot of every place of an image."""
        slots = self._slots.get(key)  # another thread may refresh meanwhile
        if slots is None:
            image = self.contents.layout.image(key)
            slots = self._slots[key] = self._planes.slots(image, self._recording.slots(key))
        return slots

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return the frames of some slots."""
        return self._planes.read(image, slots, level)

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every resolution that is stored."""
        shapes = self._planes.level_shapes(image)
        return shapes[:1] if self._lacks_slabs else shapes

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every resolution that is stored.

        Levels with fewer planes lack some until the recording has ended: they are not told before.
        """
        if self._recording.header.get("z_factor", 1) == 1:
            return [image.sizes.get("z", 1)] * len(self._planes.level_shapes(image))
        return self._planes.level_depths(image)[: 1 if self._lacks_slabs else None]

    @property
    def _lacks_slabs(self) -> bool:
        fewer_planes = self._recording.header.get("z_factor", 1) > 1
        return fewer_planes and not isinstance(self._recording, FinishedRecording)

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return the ``FrameMetaV1`` of a frame, and what this package added to it."""
        try:
            found = self._recording.metadata(image, place)
        except FileNotFoundError:  # the journal went: the recording has just ended
            self._recording = open_recording(self._path)
            self._slots.clear()
            found = self._recording.metadata(image, place)
        return self._recording.names.frame_now(found)

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame."""
        return (
            (key, self._recording.names.frame_now(frame)) for key, frame in self._recording.frames()
        )

    def lost(self, image: ImageLayout) -> Set[tuple[int, ...]]:
        """Return the places whose file is gone, or another recording's; looked for once."""
        if image.key not in self._lost:
            self._lost[image.key] = self._find_lost(image)
        return self._lost[image.key]

    def refresh(self) -> list[Frame]:
        """Look for news; a recording that has ended is read in its final form from then on.

        The journal is read to its end before, as nothing is appended after the final form.
        """
        if isinstance(self._recording, FinishedRecording):
            return []
        self._slots.clear()
        ended = recording_path(self._path).exists()
        try:
            came = self._recording.refresh()
        except FileNotFoundError:
            return self._end()
        if ended:
            came += self._end()
        return came

    def is_live(self) -> bool:
        """Whether more may come."""
        return self._recording.is_live()

    def close(self) -> None:
        """Let go of all files."""
        self._planes.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordingSource, (self._path, self._storage_options)

    def _planes_of(self, name: str) -> Planes:
        """Return what reads the pixels of a format; each with a library that it alone needs."""
        folder = self._path.parent
        if name == "bigtiff":
            from mda_writers.formats.tiff.reader import TiffPlanes

            ome = ".ome.tif" in self._recording.header["path"].lower()
            set_id = str(self._recording.header.get("set_id", ""))
            return TiffPlanes(folder, linked=ome, set_id=set_id)
        if name == "tiff-series":
            from mda_writers.formats.tiff.reader import SeriesPlanes

            return SeriesPlanes(folder, self._recording.header)
        if name == "ome-zarr":
            from mda_writers.formats.zarr.reader import ZarrPlanes

            return ZarrPlanes(folder)
        if name == "ome-zarr-objects":
            from mda_writers.formats.zarr.objects import ObjectPlanes

            return ObjectPlanes(self._recording.header["url"], self._storage_options)
        if name == "video":
            from mda_writers.formats.video.reader import VideoPlanes

            return VideoPlanes(folder, self._file_of)
        return FormatPlanes(folder, format_of(self._recording.header), self.metadata)

    def _find_lost(self, image: ImageLayout) -> Set[tuple[int, ...]]:
        # which files a series or a video has is known at its end
        known = _FILES_KNOWN if isinstance(self._recording, FinishedRecording) else _FILES_FIXED
        if self._recording.format not in known:
            return frozenset()
        gone = {file for file in image.all_files if not self._is_there(image, file)}
        if not gone and self._recording.format != "tiff-series":
            return frozenset()
        places = [tuple(place) for place in frames_at(self._recording.slots(image.key)).tolist()]
        if self._recording.format == "tiff-series":
            from mda_writers.formats.tiff.reader import SeriesPlanes

            assert isinstance(self._planes, SeriesPlanes)
            return frozenset(self._planes.lost(image, places))
        if gone.issuperset(image.all_files):
            return frozenset(places)
        return frozenset(
            p for p in places if self.metadata(image, p)["mda_writers"]["file"] in gone
        )

    def _is_there(self, image: ImageLayout, file: str) -> bool:
        path = self._path.parent / file
        if not path.exists():
            return False
        if (
            self._recording.format == "bigtiff"
            and ".ome.tif" in self._recording.header["path"].lower()
        ):
            try:
                check_uuid(path, file_uuid(self._recording.header["set_id"], image.key))
            except CorruptRecordingError:
                return False
        return True

    def _file_of(self, image: ImageLayout, channel: int) -> str:
        """Return the file of an image's channel, as its first frame tells it; "" without one."""
        if (image.key, channel) in self._files:
            return self._files[image.key, channel]
        axes = list(image.sizes)
        for place in frames_at(self._recording.slots(image.key)):
            if "c" not in axes or place[axes.index("c")] == channel:
                ours = self.metadata(image, tuple(map(int, place)))["mda_writers"]
                return self._files.setdefault((image.key, channel), str(ours["file"]))
        return ""

    def _end(self) -> list[Frame]:
        """Switch to the final form; return the frames that the journal had not told before."""
        before, self._recording = self._recording, FinishedRecording(self._path)
        known = {image.key for image in before.contents.layout.images}
        came: list[Frame] = []
        for image in self._recording.contents.layout.images:
            slots = self._recording.slots(image.key)
            told_before = before.slots(image.key) if image.key in known else None
            if isinstance(slots, FewSlots) or isinstance(told_before, FewSlots):
                came += _news(image.key, slots, told_before)
                continue
            written = slots >= 0
            if told_before is not None:
                told = told_before >= 0
                both = tuple(map(slice, np.minimum(told.shape, written.shape)))
                written[both] &= ~told[both]
            came += [(image.key, tuple(map(int, place))) for place in np.argwhere(written)]
        return came


class FormatPlanes:
    """Reads frames the way their format says; of a format that has no faster reader here.

    Parameters
    ----------
    folder : Path
        The recording's.
    fmt : Format
        Reads single frames.
    metadata : callable
        Returns the metadata of a frame, from its image and its place.
    """

    def __init__(
        self,
        folder: Path,
        fmt: Format,
        metadata: Callable[[ImageLayout, tuple[int, ...]], dict[str, Any]],
    ) -> None:
        self._folder = folder
        self._format = fmt
        self._metadata = metadata

    def slots(self, image: ImageLayout, numbers: Slots) -> Slots:
        """Return every frame's place, counted in the order of the axes."""
        if isinstance(numbers, FewSlots):
            return FewSlots(numbers.shape, numbers.places, numbers.places)
        return np.where(numbers >= 0, np.arange(numbers.size).reshape(numbers.shape), numbers)

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their place."""
        frames = np.zeros((len(slots), *image.frame_shape), image.dtype)
        for frame, slot in zip(frames, slots, strict=True):
            place = tuple(map(int, np.unravel_index(slot, tuple(image.sizes.values()))))
            ours = self._metadata(image, place)["mda_writers"]
            path = self._folder / image.file
            try:
                frame[...] = self._format.read_frame(path, image, ours)
            except Exception as error:  # whatever a damaged file makes its reader do
                raise CorruptRecordingError(f"{path}: frame at {place}: {error}") from error
        return frames

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape: there are no smaller levels."""
        return [tuple(image.frame_shape)]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of the full resolution, the only one."""
        return [image.sizes.get("z", 1)]

    def close(self) -> None:
        """Nothing is kept open."""


def _news(key: str, slots: Slots, told: Slots | None) -> list[Frame]:
    """Return the frames of an image that is nearly empty which had not been told before."""
    before = set() if told is None else set(map(tuple, frames_at(told).tolist()))
    places = map(tuple, frames_at(slots).tolist())
    return [(key, place) for place in places if place not in before]


def open_recording(path: Path) -> FinishedRecording | LiveRecording:
    """Return what describes the recording at `path`: its final form if there is one."""
    if recording_path(path).exists():
        return FinishedRecording(path)
    try:
        return LiveRecording(path)
    except FileNotFoundError:
        return FinishedRecording(path)  # it ended between the two looks


class FinishedRecording:
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
