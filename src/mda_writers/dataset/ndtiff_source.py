"""NDTiff folders, as pycro-manager and Micro-Manager write them, through the library ndstorage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.ndtiff_frames import NDTiffFrames
from mda_writers.dataset.sources import MISSING, Contents
from mda_writers.dataset.static_source import StaticSource
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import Channel, ImageLayout, Layout

if TYPE_CHECKING:
    from pathlib import Path

_OURS = {"time": "t", "channel": "c", "z": "z", "position": "p", "column": "col"}
_INNER = ("time", "channel", "z")

ImageIndex = tuple[tuple[str, int], ...]


class NDTiffSource(StaticSource):
    """Reads an NDTiff folder, as far as it is written when it is opened.

    Axes time, channel, z, position and column become t, c, z, p and col; row and axes of a user's
    own keep their names. Indices are those of NDTiff, also of rows and columns.

    Parameters
    ----------
    path : Path
        The folder, with its ``NDTiff.index``.

    Raises
    ------
    CorruptRecordingError
        If ndstorage cannot read it.
    ImportError
        If ndstorage is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots: dict[str, np.ndarray] = {}
        try:
            self._frames = NDTiffFrames(path)
        except ImportError:
            raise
        except Exception as error:  # whatever a damaged index makes of ndstorage
            raise _corrupt(path, error) from error
        try:
            self.contents = self._described()
        except Exception as error:
            self._frames.close()
            raise _corrupt(path, error) from error

    def slots(self, key: str) -> np.ndarray:
        """Return the number of every frame in the order of the index."""
        return self._slots[key]

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their number."""
        return self._frames.read(slots.tolist())

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return the frame's metadata as Micro-Manager wrote it."""
        return self._frames.metadata(int(self._slots[image.key][place]))

    def close(self) -> None:
        """Let go of the files."""
        self._frames.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return NDTiffSource, (self._path,)

    # ------------------------------------------------------------ what is in it

    def _described(self) -> Contents:
        frames = self._frames.coordinates
        if not any(self._frames.whole):
            raise CorruptRecordingError(
                f"{self._path}: an NDTiff folder without a frame that is on disk as a whole. If it "
                "is being written, open it again when frames have come."
            )
        summary = self._frames.summary
        about = self._frames.metadata(self._frames.whole.index(True))
        pixel_size = _positive(about.get("PixelSizeUm")) or _positive(summary.get("PixelSizeUm"))
        self._names = {axis: _values(frames, axis) for axis in _axes_of(frames)}
        by_image: dict[ImageIndex, list[int]] = {}
        for number, frame in enumerate(frames):
            by_image.setdefault(self._outer(frame), []).append(number)
        images = [
            self._image(f"{n}", dict(index), numbers, _Tiling.of(summary, pixel_size or 1.0))
            for n, (index, numbers) in enumerate(by_image.items())
        ]
        layout = Layout(
            images=tuple(images),
            pixel_size_um=pixel_size,
            z_step_um=_positive(summary.get("z-step_um")),
        )
        filled = all(slots.min(initial=0) >= 0 for slots in self._slots.values())
        return Contents(layout, summary, complete=filled and self._frames.ended)

    def _outer(self, frame: dict[str, Any]) -> ImageIndex:
        index = {
            _OURS.get(axis, axis): self._number(axis, value)
            for axis, value in frame.items()
            if axis not in _INNER
        }
        return tuple(sorted(index.items()))

    def _number(self, axis: str, value: Any) -> int:
        known = self._names[axis]
        return int(value) if known is None else known[value]

    def _image(
        self, key: str, index: dict[str, int], numbers: list[int], tiling: _Tiling
    ) -> ImageLayout:
        axes = [axis for axis in _INNER if axis in self._names]
        self._slots[key] = self._filled(axes, numbers)
        channels = list(self._names.get("channel") or ())
        sizes = {_OURS[a]: n for a, n in zip(axes, self._slots[key].shape, strict=True)}
        position = self._frames.coordinates[numbers[0]].get("position")
        shape = self._frames.shape(numbers[0])
        return ImageLayout(
            key=key,
            name=position if isinstance(position, str) else f"p{index.get('p', 0)}",
            index=index,
            sizes=sizes,
            frame_shape=shape,
            dtype=self._frames.dtype(numbers[0]).name,
            channels=tuple(Channel(str(name)) for name in channels[: sizes.get("c", 1)])
            or (Channel(""),) * sizes.get("c", 1),
            position_um=tiling.position_um(index, shape),
        )

    def _filled(self, axes: list[str], numbers: list[int]) -> np.ndarray:
        """Return the slots of an image's places; frames that are not whole are missing."""
        frames = [self._frames.coordinates[number] for number in numbers]
        places = [tuple(self._number(a, f[a]) if a in f else 0 for a in axes) for f in frames]
        slots = np.full([max(along) + 1 for along in zip(*places, strict=True)], MISSING)
        for place, number in zip(places, numbers, strict=True):
            slots[place] = number if self._frames.whole[number] else MISSING
        return slots


@dataclass(frozen=True, slots=True)
class _Tiling:
    """How far apart tiles lie: their size without the overlap, which is the same for all."""

    pixel_size_um: float
    overlap_y: float
    overlap_x: float

    @classmethod
    def of(cls, summary: dict[str, Any], pixel_size_um: float) -> _Tiling:
        overlaps = (float(summary.get(f"GridPixelOverlap{axis}") or 0) for axis in "YX")
        return cls(pixel_size_um, *overlaps)

    def position_um(
        self, index: dict[str, int], shape: tuple[int, ...]
    ) -> tuple[float, float, None] | None:
        """Return where a tile lies by its row and column: rows go down, so that y gets smaller."""
        if "row" not in index or "col" not in index:
            return None
        height, width = shape[0] - self.overlap_y, shape[1] - self.overlap_x
        x, y = index["col"] * width, -index["row"] * height
        return x * self.pixel_size_um, y * self.pixel_size_um, None


def _axes_of(frames: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(axis for frame in frames for axis in frame))


def _values(frames: list[dict[str, Any]], axis: str) -> dict[Any, int] | None:
    """Return value → index along an axis of names; None where the values are indices."""
    values = list(dict.fromkeys(frame[axis] for frame in frames if axis in frame))
    indices = all(isinstance(v, int | np.integer) and v >= 0 for v in values)
    if indices or axis in ("row", "column"):
        return None
    named = all(isinstance(v, str) for v in values)
    return {value: n for n, value in enumerate(values if named else sorted(values))}


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _corrupt(path: Path, error: Exception) -> CorruptRecordingError:
    if isinstance(error, CorruptRecordingError):
        return error
    return CorruptRecordingError(
        f"{path}: not an NDTiff folder that can be read, incomplete, or altered "
        f"({type(error).__name__}: {error}). Copy it again if this is a copy."
    )
