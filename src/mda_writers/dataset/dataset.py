"""A recording, read back by coordinates; also while it is being recorded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mda_writers.dataset.arrays import (
    TILE_AXES,
    FrameGrid,
    LevelSource,
    Mosaic,
    as_dask,
    level_images,
    planes_covered,
)
from mda_writers.dataset.coordinates import (
    ALIASES,
    Coordinates,
    ImageCoordinates,
    Value,
    cameras_of,
    choose,
)
from mda_writers.dataset.source import MISSING, level_shapes, read_level
from mda_writers.errors import CoordinateError, MissingFrameError
from mda_writers.model.layout import CameraChannels
from mda_writers.model.locate import of_camera, side_by_side
from mda_writers.model.microscope import MicroscopeInfo
from mda_writers.model.plan import planned_images
from mda_writers.model.report import MISSING_LISTED
from mda_writers.model.slots import dense
from mda_writers.storage.disk_space import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mda_writers.dataset.source import Contents, Frame, FrameSource, PixelSource
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.plan import PlannedImage


FRAME_AXES = ("y", "x", "s")

POLL_S = 0.01
"""Between two looks at the journal: a look costs 0.1 ms, and frames come seldom in less."""

LISTED = 10


class Dataset:
    """A recording, opened by `open_dataset`.

    Frames have coordinates: ``t``, ``c``, ``z`` and, where there are any, ``p`` (position),
    ``g`` (grid tile), ``cam`` (camera) and axes of a user's own; ``time``, ``channel``,
    ``position``, ``row`` and ``column`` are understood as well. Channels and positions are named
    or numbered, axes of length one may be left out. What does not exist is an error
    that lists what does.

    While the recording goes on, everything here shows what was on disk at the last `refresh`,
    `await_new_image`, or step of `follow`; a frame appears only when it is there as a whole.
    """

    def __init__(self, source: FrameSource, path: Path | str) -> None:
        self.path = path
        self.source = source  # who reads the files, for those who go through all frames
        self._coordinates = Coordinates(())
        self._followers: list[deque[dict[str, Value]]] = []
        self._update()

    @property
    def axes(self) -> dict[str, Sequence[Value]]:
        """Axis → its values, slowest first; names for channels and positions that have them."""
        return dict(self._coordinates.axes)

    @property
    def sizes(self) -> dict[str, int]:
        """Axis → its length, with y and x (and s for colour)."""
        leading = {axis: len(values) for axis, values in self._coordinates.axes.items()}
        frame = self.source.level_shapes(self._image)[0]
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
        return len(level_shapes(self.source, self._image))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of every level, the full resolution first."""
        frames = level_shapes(self.source, self._image)
        axes = [self._at(level)[1].axes.values() for level in range(len(frames))]
        return [(*map(len, leading), *frame) for leading, frame in zip(axes, frames, strict=True)]

    @property
    def summary_metadata(self) -> dict[str, Any]:
        """The ``SummaryMetaV1``; of third-party files, what they say about themselves."""
        return self._contents.summary_metadata

    @property
    def sequence(self) -> dict[str, Any] | None:
        """The ``MDASequence`` as plain data; None where there was none."""
        return self._contents.sequence

    @property
    def report(self) -> dict[str, Any] | None:
        """The report of a recording that has ended; None before, and for third-party files."""
        return self._contents.report

    @property
    def complete(self) -> bool:
        """Whether every planned frame is on disk, in a file that is there and its own."""
        return self._contents.complete and not any(map(self.source.lost, self._images))

    @property
    def missing(self) -> list[dict[str, Any]]:
        """The coordinates of planned frames that are not on disk (at most 10 000)."""
        return missing_frames(self.source, self._contents, self._coordinates)

    @property
    def image_coordinates(self) -> Sequence[dict[str, Value]]:
        """The coordinates of every frame that is on disk."""
        return ImageCoordinates(self.source, self._coordinates)

    def summary(self) -> dict[str, str]:
        """Return the recording in a few words for people: what it holds, and what is missing."""
        frames = len(self.image_coordinates)
        about = {"path": str(self.path), "frames": str(frames)}
        if frames:
            about["sizes"] = ", ".join(f"{axis} {n}" for axis, n in self.sizes.items())
            about["pixels"] = f"{self.dtype}, {human_bytes(self.nbytes)}"
        about["channels"] = _listed(self.channels)
        about["positions"] = _listed(self.positions)
        about["pixel size"] = f"{self.pixel_size_um} µm" if self.pixel_size_um else ""
        about["state"] = _state(self)
        return {name: text for name, text in about.items() if text}

    # ------------------------------------------------------------ one frame

    def read_image(self, level: int = 0, **coords: Any) -> np.ndarray:
        """Return one frame, ``(y, x)`` or ``(y, x, 3)``.

        Where a level has fewer planes along z, its planes are counted, as in `shapes`.

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
        return self.source.metadata(image, place)

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
        return place not in self.source.lost(image)

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
        import xarray

        array, kept = self._lazy(None, False, level, fill_value, coords)
        images = FrameGrid(
            self.source, self._coordinates, *choose(self._coordinates, None, coords)
        ).images
        dims = [*kept, *FRAME_AXES[: array.ndim - len(kept)]]
        steps = _steps(self, level, images)
        labels: dict[str, Any] = {}
        for axis, size in zip(dims, array.shape, strict=True):
            values = kept.get(axis, range(size))
            if isinstance(kept.get(axis), range):
                continue  # labels for each of so many would fill the memory
            if axis in kept:
                values = [self._coordinates.value(axis, v) for v in values]
            step, unit = steps.get(axis, (None, ""))
            if step is not None and all(isinstance(v, int) for v in values):
                labels[axis] = (axis, [v * step for v in values], {"units": unit})
            elif axis != "s":
                labels[axis] = list(values)
        attributes = {"path": str(self.path), "pixel_size_um": self.pixel_size_um}
        return xarray.DataArray(array, coords=labels, dims=dims, attrs=attributes)

    # ------------------------------------------------------------ tables

    @property
    def frames(self) -> Any:
        """One row per frame: its coordinates, and its metadata.

        A pandas ``DataFrame`` if pandas is installed, else a list of dicts.
        """
        rows = list(_rows(self.source, self._coordinates))
        try:
            import pandas  # type: ignore[import-untyped,unused-ignore]
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    # ------------------------------------------------------------ while it is recorded

    def refresh(self) -> list[dict[str, Value]]:
        """Look for news on the disk; return the coordinates of the frames that came."""
        came: list[Frame] = self.source.refresh()
        self._update()
        coordinates = self._coordinates
        news = [coordinates.of(coordinates.image(key), place) for key, place in came]
        for follower in self._followers:
            follower.extend(news)
        return news

    def await_new_image(self, timeout_s: float | None = None) -> bool:
        """Return True when a new frame is on disk; False after a while, or if none will come.

        Parameters
        ----------
        timeout_s : float, optional
            How long to wait; by default until a frame comes or the recording ends.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            # asked before looking: a writer may write its last frame and end in between
            live = self.is_live()
            if self.refresh():
                return True
            if not live or (deadline is not None and time.monotonic() >= deadline):
                return False
            time.sleep(POLL_S)

    def follow(self) -> Iterator[dict[str, Value]]:
        """Yield the coordinates of every frame, those on disk first and then each as it comes.

        Ends when the recording ends, and when the process that writes it has died.
        """
        news: deque[dict[str, Value]] = deque()
        self._followers.append(news)
        try:
            yield from self.image_coordinates
            while news or self.await_new_image():
                while news:
                    yield news.popleft()
        finally:
            # by identity: two followers may have the same news
            self._followers[:] = [each for each in self._followers if each is not news]

    def is_live(self) -> bool:
        """Whether more frames may come: the recording has not ended, and its writer lives."""
        return self.source.is_live()

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Let go of all files. Arrays that view them keep them open as long as they live."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{axis}: {n}" for axis, n in self.sizes.items()) if self._images else ""
        state = "complete" if self.complete else "not complete"
        return f"<Dataset {self.path} ({sizes or 'no frames yet'}; {state})>"

    # ------------------------------------------------------------ helpers

    def _update(self) -> None:
        """Take in what the source knows by now; new frames alone change no coordinates."""
        self._contents: Contents = self.source.contents
        if self._contents.layout.images != self._coordinates.images:
            self._coordinates = Coordinates(self._contents.layout.images)
        self._by_level: dict[int, tuple[PixelSource, Coordinates]] = {
            0: (self.source, self._coordinates)
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
            images = level_images(self.source, self._images, level)
            source = LevelSource(self.source, self._images, level)
            same = images == self._images
            self._by_level[level] = (
                (self.source, self._coordinates) if same else (source, Coordinates(images))
            )
        return self._by_level[level]

    def _level(self, level: int) -> int:
        if level != 0 and not 0 <= level < self.levels:
            raise CoordinateError(f"There is no level {level}; there are 0 to {self.levels - 1}.")
        return level

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


def _steps(
    dataset: Dataset, level: int, images: Sequence[ImageLayout]
) -> dict[str, tuple[float | None, str]]:
    _, y, x = dataset.voxel_size_um
    layout = dataset.source.contents.layout
    z = _common(layout.z_step_of(image) for image in images if "z" in image.sizes)
    t = _common(layout.time_interval_of(image) for image in images if "t" in image.sizes)
    factor = 2**level
    sizes = (dict(zip(dataset.sizes, dataset.shapes[n], strict=True)) for n in (0, level))
    planes = [each.get("z", 1) for each in sizes]
    return {
        "t": (t, "s"),
        "z": (z * planes_covered(*planes) if z else None, "µm"),
        "y": (y * factor if y else None, "µm"),
        "x": (x * factor if x else None, "µm"),
    }


def _common(steps: Iterable[float | None]) -> float | None:
    found = set(steps)
    return found.pop() if len(found) == 1 else None


def _state(dataset: Dataset) -> str:
    if dataset.complete:
        return "complete"
    if dataset.is_live():
        return "being recorded"
    missing = len(dataset.missing)
    error = (dataset.report or {}).get("error", "")
    if dataset.report is None:
        return f"interrupted, {missing} frames missing: `mda-writers recover` completes its files"
    return f"ended with {missing} frames missing" + f" ({error})" * bool(error)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + f" and {len(names) - LISTED} more" * (len(names) > LISTED)


def missing_frames(
    source: FrameSource, contents: Contents, coordinates: Coordinates
) -> list[dict[str, Any]]:
    """Return the coordinates of planned frames that are not on disk, at most `MISSING_LISTED`.

    A recording that has ended lists them in its report; before that they are counted here.
    Those whose file was lost afterwards follow.
    """
    lost = (
        coordinates.of(image, place)
        for image in contents.layout.images
        for place in sorted(source.lost(image))
    )
    if contents.report is not None:
        listed = [*contents.report.get("skipped", ()), *contents.report.get("missing", ())]
        known = [each for index in listed for each in _of_event(index, coordinates)]
        return [*known, *islice(lost, max(0, MISSING_LISTED - len(known)))]
    holes = _planned_places(contents)
    found = (
        coordinates.of(image, place)
        for image in contents.layout.images
        if not image.growing
        for place in _unwritten(dense(source.slots(image.key)), holes.get(image.key))
    )
    return list(islice(chain(found, lost, contents.lost), MISSING_LISTED))


def _of_event(index: dict[str, int], coordinates: Coordinates) -> list[dict[str, Any]]:
    """Return the coordinates of an event's frames, one per camera.

    They are its index as it is where no frame of its image was ever written.
    """
    cameras = 1 if "cam" in index else max(map(cameras_of, coordinates.images), default=1)
    events = [index] if cameras == 1 else [{**index, "cam": n} for n in range(cameras)]
    found: list[dict[str, Any]] = []
    unknown = False
    for event in events:
        try:
            chosen = coordinates.find(event)
        except CoordinateError:
            # a camera that does not take the channel lacks nothing: the first one takes all
            unknown = unknown or event.get("cam", 0) == 0 or event == index
            if unknown:
                found.append(dict(event))
        else:
            found.append(coordinates.of(chosen.image, chosen.place))
    return found


def _unwritten(slots: np.ndarray, planned: np.ndarray | None) -> Iterator[tuple[int, ...]]:
    absent = slots == MISSING if planned is None else (slots == MISSING) & planned
    return (tuple(map(int, place)) for place in np.argwhere(absent))


def _planned_places(contents: Contents) -> dict[str, np.ndarray]:
    """Return which places were planned, for the images whose plan leaves some of the box out."""
    holed = [i for i in contents.layout.images if i.frames_planned not in (None, i.planes)]
    if not holed or not contents.sequence:
        return {}
    from useq import MDASequence

    microscope = MicroscopeInfo.from_summary(contents.summary_metadata)
    plans = {
        plan.image_index: plan
        for plan in planned_images(MDASequence.model_validate(contents.sequence), microscope)
    }
    found = {}
    for image in holed:
        index = tuple(sorted((a, i) for a, i in image.index.items() if a != "cam"))
        plan = next((p for k, p in plans.items() if tuple(sorted(k)) == index), None)
        if plan is not None and plan.indices is not None:
            found[image.key] = _as_mask(image, plan)
    return found


def _as_mask(image: ImageLayout, plan: PlannedImage) -> np.ndarray:
    """Return the planned places; each one of a channel counts for all cameras side by side."""
    own = image.index.get("cam")
    if own is not None:
        plan = of_camera(plan, own)
    labels = [""] * (image.sizes.get("c", 1) // plan.sizes.get("c", 1))
    _, places = side_by_side(plan, CameraChannels(labels, plan.cameras))
    mask = np.zeros(tuple(image.sizes.values()), bool)
    mask[tuple(np.array(list(places)).T) if places else ...] = True
    return mask


def _rows(source: FrameSource, coordinates: Coordinates) -> Iterator[dict[str, Any]]:
    """Yield coordinates and metadata; what a frame's metadata groups becomes ``group.name``."""
    for key, frame in source.frames():
        image = coordinates.image(key)
        ours = frame.get("mda_writers", {})
        plain = {name: value for name, value in frame.items() if name != "mda_writers"}
        where = coordinates.of(image, tuple(ours.get("place", ())))
        # a user's metadata may have names of axes, too; the coordinates come first, and count
        yield {**where, **_flat(plain), **_flat(ours, "mda_writers."), **where}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
