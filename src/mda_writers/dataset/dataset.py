"""`Dataset`: a recording to look at, finished or not, by coordinates or as an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mda_writers.dataset.coordinates import (
    ALIASES,
    CoordinateError,
    Coordinates,
    MissingFrameError,
    Value,
)
from mda_writers.dataset.described import FRAME_AXES, Described
from mda_writers.dataset.following import await_news, follow
from mda_writers.dataset.frame_grid import FrameGrid
from mda_writers.dataset.lazy import as_dask
from mda_writers.dataset.levels import read_level
from mda_writers.dataset.selection import choose
from mda_writers.dataset.stitching import TILE_AXES, Mosaic

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.dataset.sources import Frame, FrameSource, PixelSource
    from mda_writers.model.layout import ImageLayout


class Dataset(Described):
    """A recording, opened by `open_dataset`.

    Frames have coordinates: ``t``, ``c``, ``z`` and, where there are any, ``p`` (position),
    ``g`` (grid tile), ``cam`` (camera) and axes of a user's own; ``time``, ``channel``,
    ``position``, ``row`` and ``column`` are understood as well. Channels and positions are told
    by name or by index, axes of length one may be left out. What does not exist is an error
    that lists what does.

    While the recording goes on, everything here tells what was on disk at the last `refresh`,
    `await_new_image`, or step of `follow`; a frame is told only when it is there as a whole.
    """

    def __init__(self, source: FrameSource, path: Path | str) -> None:
        self.followers: list[deque[dict[str, Value]]] = []
        super().__init__(source, path)

    def summary(self) -> dict[str, str]:
        """Return the recording in a few words for people: what it holds, and what is missing."""
        from mda_writers.dataset.summary import summarized

        return summarized(self)

    # ------------------------------------------------------------ one frame

    def read_image(self, level: int = 0, **coords: Any) -> np.ndarray:
        """Return one frame, ``(y, x)`` or ``(y, x, 3)``.

        Where a level has fewer planes along z, its planes are counted, as `shapes` tells them.

        Raises
        ------
        CoordinateError
            If there is no such axis, value or frame.
        CorruptRecordingError
            If its file is cut or altered.
        """
        source, coordinates = self._at(self._level(level))
        image, _, slot = self._find(coords, source, coordinates)
        frame: np.ndarray = read_level(source, image, np.array([slot]), level)[0]
        return frame if frame.flags.writeable else frame.copy()

    def read_metadata(self, **coords: Any) -> dict[str, Any]:
        """Return what is known about one frame: its ``FrameMetaV1``, and ``mda_writers``.

        Raises
        ------
        CoordinateError
            If there is no such axis, value or frame.
        """
        image, place, _ = self._find(coords, *self._at(0))
        return self._source.metadata(image, place)

    def has_image(self, **coords: Any) -> bool:
        """Whether that frame is on disk.

        Raises
        ------
        CoordinateError
            If there is no such axis, or one is left out that has a choice.
        """
        self._coordinates.normalized(coords)
        try:
            image, place, _ = self._find(coords, *self._at(0))
        except MissingFrameError:
            return False
        return place not in self._source.lost(image)

    # ------------------------------------------------------------ arrays

    def as_array(
        self,
        axes: Sequence[str] | None = None,
        stitched: bool = False,
        level: int = 0,
        *,
        fill_value: float = 0,
        **coords: Any,
    ) -> Any:
        """Return a lazy Dask array.

        Parameters
        ----------
        axes : sequence of str, optional
            The axes before y and x, in any order; by default all that are not chosen by one
            value. Axes of length one may be left out.
        stitched : bool
            Whether tiles and positions are laid beside one another in y and x; see `Mosaic`.
        level : int
            Resolution; 0 is the full one.
        fill_value : number
            Stands for the pixels of missing frames (see `missing`).
        **coords
            Axis → one value (the axis goes), a slice of indices or a list of values (it stays).

        Raises
        ------
        CoordinateError
            If there is no such axis or value, or the images differ in shape.
        """
        within = [coords.pop(axis, slice(None)) for axis in FRAME_AXES]
        array, kept = self._lazy(axes, stitched, level, fill_value, coords)
        frame = within[: array.ndim - len(kept)]
        return array[(..., *frame)] if any(w != slice(None) for w in frame) else array

    def isel(
        self, indexers: Mapping[str, Any] | None = None, *, level: int = 0, **index: Any
    ) -> np.ndarray:
        """Return pixels by index: integers and slices for any axis, with y and x.

        Missing frames are zero; see `missing`.
        """
        given = {ALIASES.get(a, a): i for a, i in {**(indexers or {}), **index}.items()}
        unknown = given.keys() - self.sizes.keys()
        if unknown:
            raise CoordinateError(
                f"There is no axis {', '.join(map(repr, unknown))}; there is "
                f"{', '.join(self.sizes)}."
            )
        source, coordinates = self._at(self._level(level))
        kept, fixed = choose(coordinates, None, {})
        grid = FrameGrid(source, coordinates, kept, fixed, 0, level)
        return np.array(grid[tuple(given.get(axis, slice(None)) for axis in self.sizes)])

    def to_xarray(self, level: int = 0, *, fill_value: float = 0, **coords: Any) -> Any:
        """Return a lazy ``xarray.DataArray``: t in s, z, y and x in µm, channels by name.

        Takes what `as_array` takes; needs the package xarray.
        """
        from mda_writers.dataset.labelled import to_xarray

        array, kept = self._lazy(None, False, level, fill_value, coords)
        labels = {
            a: vs if isinstance(vs, range) else [self._coordinates.value(a, v) for v in vs]
            for a, vs in kept.items()
        }
        chosen = FrameGrid(
            self._source, self._coordinates, *choose(self._coordinates, None, coords)
        )
        return to_xarray(self, array, labels, level, chosen.images)

    # ------------------------------------------------------------ tables

    @property
    def frames(self) -> Any:
        """One row a frame: its coordinates, and its metadata.

        A pandas ``DataFrame`` if pandas is installed, else a list of dicts.
        """
        from mda_writers.dataset.table import frames_table

        return frames_table(self._source, self._coordinates)

    # ------------------------------------------------------------ while it is recorded

    def refresh(self) -> list[dict[str, Value]]:
        """Look for news on the disk; return the coordinates of the frames that came."""
        came: list[Frame] = self._source.refresh()
        self._update()
        coordinates = self._coordinates
        news = [coordinates.of(coordinates.image(key), place) for key, place in came]
        for follower in self.followers:
            follower.extend(news)
        return news

    def await_new_image(self, timeout_s: float | None = None) -> bool:
        """Return True when a new frame is on disk; False after a while, or if none will come.

        Parameters
        ----------
        timeout_s : float, optional
            How long to wait; by default until a frame comes or the recording ends.
        """
        return await_news(self, timeout_s)

    def follow(self) -> Iterator[dict[str, Value]]:
        """Yield the coordinates of every frame, those on disk first and then each as it comes.

        Ends when the recording ends, and when the process that writes it has died.
        """
        return follow(self)

    def is_live(self) -> bool:
        """Whether more frames may come: the recording has not ended, and its writer lives."""
        return self._source.is_live()

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Let go of all files. Arrays that view them keep them open as long as they live."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{axis}: {n}" for axis, n in self.sizes.items()) if self._images else ""
        state = "complete" if self.complete else "not complete"
        return f"<Dataset {self.path} ({sizes or 'no frames yet'}; {state})>"

    # ------------------------------------------------------------ helpers

    def _find(
        self, coords: Mapping[str, Any], source: PixelSource, coordinates: Coordinates
    ) -> tuple[ImageLayout, tuple[int, ...], int]:
        """Return the image, the place and the slot of a frame that is on disk."""
        image, place = coordinates.find(coords)
        slot = source.slots(image.key)[place]
        if slot < 0:
            raise MissingFrameError(
                f"{self.path}: the frame at {coordinates.of(image, place)} is "
                "not on disk: it was never taken, or not yet. `missing` lists all such frames."
            )
        return image, place, slot

    def _lazy(
        self,
        axes: Sequence[str] | None,
        stitched: bool,
        level: int,
        fill_value: float,
        coords: Mapping[str, Any],
    ) -> tuple[Any, dict[str, Sequence[Any]]]:
        """Return a lazy array, and the axes before y and x with their values."""
        if not self._images:
            raise CoordinateError(f"{self.path}: there are no frames yet.")
        source, coordinates = self._at(self._level(level))
        if stitched and axes is not None:
            tiles = [a for a in choose(coordinates, None, coords)[0] if a in TILE_AXES]
            axes = [*(axis for axis in axes if axis not in TILE_AXES), *tiles]
        kept, fixed = choose(coordinates, axes, coords)
        about = (source, coordinates, kept, fixed, fill_value, level)
        if stitched:
            mosaic = Mosaic(*about, self.pixel_size_um)
            rest = {axis: values for axis, values in kept.items() if axis not in TILE_AXES}
            return as_dask(mosaic, mosaic.ndim - len(rest)), rest
        grid = FrameGrid(*about)
        return as_dask(grid, len(grid.frame_shape)), kept
