"""NDTiff folders, as pycro-manager and Micro-Manager write them, through the library ndstorage."""

from __future__ import annotations

import io
import threading
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.sources import Contents
from mda_writers.dataset.static_source import StaticSource
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import Channel, ImageLayout, Layout

if TYPE_CHECKING:
    from pathlib import Path

_OURS = {"time": "t", "channel": "c", "z": "z", "position": "p"}
_INNER = ("t", "c", "z")


class NDTiffSource(StaticSource):
    """Reads an NDTiff folder that is complete.

    Axes time, channel, z and position become t, c, z and p; row and column become one axis g,
    whose tiles are found by ``row`` and ``col`` as everywhere. Indices are those of NDTiff.

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
        try:
            from ndstorage import Dataset as NDTiffDataset
        except ImportError as error:
            raise ImportError(
                f"{path}: reading NDTiff needs the package ndstorage. Install it with "
                "`pip install mda-writers[ndtiff]`."
            ) from error
        self._path = path
        self._lock = threading.Lock()
        try:
            with redirect_stdout(io.StringIO()):  # it tells of its progress
                self._data = NDTiffDataset(str(path))
            self._frames = [dict(each) for each in self._data.get_image_coordinates_list()]
            self._describe()
        except Exception as error:  # whatever a damaged index makes of ndstorage
            raise _corrupt(path, error) from error

    def slots(self, key: str) -> np.ndarray:
        """Return the number of every frame in the list of NDTiff's own coordinates."""
        return self._slots[key]

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their number."""
        with self._lock:
            try:
                frames = [self._data.read_image(**self._frames[slot]) for slot in slots]
            except Exception as error:
                raise _corrupt(self._path, error) from error
        return np.stack([np.asarray(frame) for frame in frames])

    def metadata(self, image: ImageLayout, place: tuple[int, ...]) -> dict[str, Any]:
        """Return the frame's metadata as Micro-Manager wrote it."""
        with self._lock:
            found = self._data.read_metadata(**self._frames[int(self._slots[image.key][place])])
        return dict(found or {})

    def close(self) -> None:
        """Let go of the files."""
        self._data.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return NDTiffSource, (self._path,)

    # ------------------------------------------------------------ what is in it

    def _describe(self) -> None:
        if not self._frames:
            raise CorruptRecordingError(f"{self._path}: an NDTiff folder without a frame.")
        summary = dict(self._data.summary_metadata or {})
        first = np.asarray(self._data.read_image(**self._frames[0]))
        about = self._data.read_metadata(**self._frames[0]) or {}
        self._names = {axis: _values(self._frames, axis) for axis in _axes_of(self._frames)}
        tiles = sorted(
            {(f["row"], f["column"]) for f in self._frames if "row" in f and "column" in f}
        )
        by_image: dict[tuple[tuple[str, int], ...], list[int]] = {}
        for number, frame in enumerate(self._frames):
            index = tuple(self._outer(frame, tiles).items())
            by_image.setdefault(index, []).append(number)
        self._slots: dict[str, np.ndarray] = {}
        pixel_size = _positive(about.get("PixelSizeUm")) or _positive(summary.get("PixelSizeUm"))
        images = [
            self._image(f"{n}", dict(index), numbers, first, tiles, pixel_size, summary)
            for n, (index, numbers) in enumerate(by_image.items())
        ]
        layout = Layout(
            images=tuple(images),
            pixel_size_um=pixel_size,
            z_step_um=_positive(summary.get("z-step_um")),
        )
        complete = all(slots.min(initial=0) >= 0 for slots in self._slots.values())
        self.contents = Contents(layout, summary, complete=complete)

    def _outer(self, frame: dict[str, Any], tiles: list[tuple[int, int]]) -> dict[str, int]:
        index = {
            _OURS.get(axis, axis): self._number(axis, value)
            for axis, value in frame.items()
            if _OURS.get(axis) not in _INNER and axis not in ("row", "column")
        }
        if "row" in frame and "column" in frame:
            index["g"] = tiles.index((frame["row"], frame["column"]))
        return index

    def _number(self, axis: str, value: Any) -> int:
        known = self._names[axis]
        return int(value) if known is None else known.index(value)

    def _image(
        self,
        key: str,
        index: dict[str, int],
        numbers: list[int],
        first: np.ndarray,
        tiles: list[tuple[int, int]],
        pixel_size_um: float | None,
        summary: dict[str, Any],
    ) -> ImageLayout:
        axes = [axis for axis in ("time", "channel", "z") if axis in self._names]
        places = [
            tuple(
                self._number(a, self._frames[n].get(a, 0)) if a in self._frames[n] else 0
                for a in axes
            )
            for n in numbers
        ]
        shape = tuple(max(place[n] for place in places) + 1 for n in range(len(axes)))
        slots = np.full(shape, -1)
        for place, number in zip(places, numbers, strict=True):
            slots[place] = number
        self._slots[key] = slots
        channels = self._names.get("channel") or []
        sizes = {_OURS[a]: n for a, n in zip(axes, shape, strict=True)}
        position = self._frames[numbers[0]].get("position")
        return ImageLayout(
            key=key,
            name=position if isinstance(position, str) else f"p{index.get('p', 0)}",
            index=index,
            sizes=sizes,
            frame_shape=first.shape,
            dtype=first.dtype.name,
            channels=tuple(Channel(str(name)) for name in channels[: sizes.get("c", 1)])
            or (Channel(""),) * sizes.get("c", 1),
            position_um=_tile_position(index, tiles, first, pixel_size_um or 1.0, summary),
        )


def _axes_of(frames: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(axis for frame in frames for axis in frame))


def _values(frames: list[dict[str, Any]], axis: str) -> list[Any] | None:
    """Return the values along an axis where they are names; None where they are indices."""
    values = list(dict.fromkeys(frame[axis] for frame in frames if axis in frame))
    indices = all(isinstance(v, int | np.integer) and v >= 0 for v in values)
    if indices or axis in ("row", "column"):
        return None
    named = all(isinstance(v, str) for v in values)
    return values if named else sorted(values)


def _tile_position(
    index: dict[str, int],
    tiles: list[tuple[int, int]],
    frame: np.ndarray,
    pixel_size_um: float,
    summary: dict[str, Any],
) -> tuple[float, float, None] | None:
    """Return where a tile lies by its row and column: rows go down, so that y gets smaller."""
    if "g" not in index:
        return None
    row, column = tiles[index["g"]]
    height = frame.shape[0] - float(summary.get("GridPixelOverlapY") or 0)
    width = frame.shape[1] - float(summary.get("GridPixelOverlapX") or 0)
    return column * width * pixel_size_um, -row * height * pixel_size_um, None


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
