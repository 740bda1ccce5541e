"""What there is in a recording: axes, names, sizes, and what it says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.coordinates import CoordinateError, Coordinates, Value
from mda_writers.dataset.image_coordinates import ImageCoordinates
from mda_writers.dataset.level_source import LevelSource, level_images
from mda_writers.dataset.levels import level_shapes
from mda_writers.dataset.missing import missing_frames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mda_writers.dataset.sources import Contents, FrameSource, PixelSource
    from mda_writers.model.layout import ImageLayout

FRAME_AXES = ("y", "x", "s")


class Described:
    """Tells what was on disk at the last look, without a pixel.

    Parameters
    ----------
    source : FrameSource
        Knows the recording.
    path : Path or str
        Where it is.
    """

    def __init__(self, source: FrameSource, path: Path | str) -> None:
        self.path = path
        self._source = source
        self._coordinates = Coordinates(())
        self._update()

    @property
    def axes(self) -> dict[str, Sequence[Value]]:
        """Axis → its values, slowest first; names for channels and positions that have them."""
        return dict(self._coordinates.axes)

    @property
    def sizes(self) -> dict[str, int]:
        """Axis → its length, with y and x (and s for colour)."""
        leading = {axis: len(values) for axis, values in self._coordinates.axes.items()}
        frame = self._source.level_shapes(self._image)[0]
        return {**leading, **dict(zip(FRAME_AXES, frame, strict=False))}

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of all axes, as `as_array` has them."""
        return tuple(self.sizes.values())

    @property
    def dtype(self) -> np.dtype:
        """Pixel type."""
        return np.dtype(self._image.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels of the whole box at full resolution, missing frames included."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def channels(self) -> list[str]:
        """Names of the channels."""
        return list(self._coordinates.channels)

    @property
    def positions(self) -> list[str]:
        """Names of the positions."""
        return list(self._coordinates.positions)

    @property
    def pixel_size_um(self) -> float | None:
        """Size of a pixel in µm; None where it is unknown."""
        return self._contents.layout.pixel_size_um

    @property
    def voxel_size_um(self) -> tuple[float | None, float | None, float | None]:
        """Distance of planes and size of a pixel in µm: ``(z, y, x)``.

        The distance is None where positions differ in it; `to_xarray` has each one's own.
        """
        layout = self._contents.layout
        z_um = layout.z_step_um
        return None if z_um is None else abs(z_um), layout.pixel_size_um, layout.pixel_size_um

    @property
    def time_interval_s(self) -> float | None:
        """Planned time between time points in s; None where there is no one such time."""
        return self._contents.layout.time_interval_s

    @property
    def levels(self) -> int:
        """Number of resolutions; those that no file has are computed when they are read."""
        return len(level_shapes(self._source, self._image))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of every level, the full resolution first."""
        frames = level_shapes(self._source, self._image)
        axes = [self._at(level)[1].axes.values() for level in range(len(frames))]
        return [(*map(len, leading), *frame) for leading, frame in zip(axes, frames, strict=True)]

    @property
    def summary_metadata(self) -> dict[str, Any]:
        """The ``SummaryMetaV1``; of files from elsewhere, what they say about themselves."""
        return self._contents.summary_metadata

    @property
    def sequence(self) -> dict[str, Any] | None:
        """The ``MDASequence`` as plain data; None where there was none."""
        return self._contents.sequence

    @property
    def report(self) -> dict[str, Any] | None:
        """The report of a recording that has ended; None before, and for files from elsewhere."""
        return self._contents.report

    @property
    def complete(self) -> bool:
        """Whether every planned frame is on disk, in a file that is there and its own."""
        return self._contents.complete and not any(map(self._source.lost, self._images))

    @property
    def missing(self) -> list[dict[str, Any]]:
        """The coordinates of planned frames that are not on disk (at most 10 000)."""
        return missing_frames(self._source, self._contents, self._coordinates)

    @property
    def image_coordinates(self) -> Sequence[dict[str, Value]]:
        """The coordinates of every frame that is on disk."""
        return ImageCoordinates(self._source, self._coordinates)

    @property
    def source(self) -> FrameSource:
        """Who reads the files: images, places and slots, for those who go through all frames."""
        return self._source

    # ------------------------------------------------------------ helpers

    def _update(self) -> None:
        """Take in what the source knows by now; new frames alone change no coordinates."""
        self._contents: Contents = self._source.contents
        if self._contents.layout.images != self._coordinates.images:
            self._coordinates = Coordinates(self._contents.layout.images)
        self._by_level: dict[int, tuple[PixelSource, Coordinates]] = {
            0: (self._source, self._coordinates)
        }

    @property
    def _images(self) -> tuple[ImageLayout, ...]:
        return self._contents.layout.images

    @property
    def _image(self) -> ImageLayout:
        if not self._images:
            raise CoordinateError(f"{self.path}: there are no frames yet.")
        return self._images[0]

    def _at(self, level: int) -> tuple[PixelSource, Coordinates]:
        """Return where the planes of a level come from, and their coordinates."""
        if level not in self._by_level:
            images = level_images(self._source, self._images, level)
            source = LevelSource(self._source, self._images, level)
            same = images == self._images
            self._by_level[level] = (
                (self._source, self._coordinates) if same else (source, Coordinates(images))
            )
        return self._by_level[level]

    def _level(self, level: int) -> int:
        if level != 0 and not 0 <= level < self.levels:
            raise CoordinateError(f"There is no level {level}; there are 0 to {self.levels - 1}.")
        return level
