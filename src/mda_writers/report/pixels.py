"""Pixels of a recording: sampled, and counted in histograms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mda_writers.model.slots import count_frames, frames_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.dataset.source import Contents, FrameSource
    from mda_writers.model.layout import ImageLayout


PIXEL_BYTES = 256 << 20
"""Pixels that are read for one page; recordings that are smaller are read completely."""

MOST_FRAMES = 4000
"""Frames that are read for one page: of small ones, a call each takes longer than their bytes."""

LEAST_FRAMES = 3
"""Frames of every channel that are looked at in any case: the first, a middle and the last one."""

SLICE = 1 << 20
"""Pixels that are counted at once: numpy counts them as 64-bit integers."""

VALUES_A_FRAME = 1 << 16
"""Pixels of a frame that stand for the rest, where there are too many values to count each."""

VALUES_KEPT = 1 << 22


@dataclass(slots=True)
class ChannelLook:
    """One channel of one image.

    Attributes
    ----------
    image : ImageLayout
        The image.
    channel : str
        The channel's name, or nothing.
    frames : int
        Frames that are on disk.
    looked_at : int
        Frames of them that the rest was made of.
    views : list of (str, str, np.ndarray)
        What it is, its index, and its pixels: first, middle and last frame.
    projection : np.ndarray or None
        The maximum of all that were looked at.
    problem : str
        Why the pixels could not be read, or nothing.
    """

    image: ImageLayout
    channel: str
    frames: int
    looked_at: int = 0
    views: list[tuple[str, str, np.ndarray]] = field(default_factory=list)
    projection: np.ndarray | None = None
    problem: str = ""


@dataclass(slots=True)
class PixelLook:
    """What was seen of a recording: rows for thumbnails, and a histogram for each channel's name.

    `images` is how many images have frames; of so many of them that `rows` allow there are looks.
    """

    looks: list[ChannelLook]
    histograms: dict[str, Histogram]
    images: int
    images_shown: int


def look_at(source: FrameSource, most_rows: int, most_bytes: int) -> PixelLook:
    """Look at the pixels of a recording.

    Parameters
    ----------
    source : FrameSource
        The recording.
    most_rows : int
        Channels of images to look at; images are chosen evenly.
    most_bytes : int
        Bytes of pixels to read, unless `LEAST_FRAMES` of each row are more.
    """
    contents = source.contents
    images = [image for image in contents.layout.images if count_frames(source.slots(image.key))]
    channels = max((image.sizes.get("c", 1) for image in images), default=1)
    shown = _evenly(len(images), max(1, most_rows // channels))
    rows = [row for n in shown for row in _rows(source, images[n])]
    histograms: dict[str, Histogram] = {}
    looks = []
    for image, name, places in rows:
        look = ChannelLook(image, name, len(places))
        looks.append(look)
        fair = min(most_bytes // max(1, image.frame_bytes), MOST_FRAMES) // len(rows)
        try:
            _look(source, look, places, max(LEAST_FRAMES, fair), contents, histograms)
        except Exception as error:  # a page about a damaged recording is worth having, too
            look.problem = f"{type(error).__name__}: {error}"
    return PixelLook(looks, histograms, len(images), len(shown))


def _rows(source: FrameSource, image: ImageLayout) -> Iterator[tuple[ImageLayout, str, np.ndarray]]:
    """Return each channel with the places of its frames that are on disk, in order."""
    axes = list(image.sizes)
    places = frames_at(source.slots(image.key))
    for channel in range(image.sizes.get("c", 1)):
        own = places[places[:, axes.index("c")] == channel] if "c" in axes else places
        known = channel < len(image.channels)
        if len(own):
            yield image, image.channels[channel].name if known else "", own


def _look(
    source: FrameSource,
    look: ChannelLook,
    places: np.ndarray,
    most_frames: int,
    contents: Contents,
    histograms: dict[str, Histogram],
) -> None:
    image = look.image
    slots = source.slots(image.key)
    views = _views(image, places)
    chosen = set(_evenly(len(places), most_frames)) | set(views.values())
    histogram = histograms.get(look.channel)
    if histogram is None:
        histogram = histogram_for(image.dtype, contents.layout.bit_depth)
        histograms[look.channel] = histogram
    for n in sorted(chosen):
        slot = slots[tuple(places[n])]
        frame = np.asarray(source.read(image, np.array([slot]))[0])
        histogram.add(frame)
        if look.projection is None:
            look.projection = frame.copy()
        else:
            np.maximum(look.projection, frame, out=look.projection)
        look.looked_at += 1
        names = [what for what, chosen_n in views.items() if chosen_n == n]
        index = " · ".join(f"{a} {i}" for a, i in zip(image.sizes, places[n], strict=True))
        look.views += [(what, index, frame.copy()) for what in names]


def _views(image: ImageLayout, places: np.ndarray) -> dict[str, int]:
    """Return which frames are the first, a middle and the last one.

    By time, in the middle of the stack; where there is but one time point, by z.
    """
    axes = list(image.sizes)
    times = np.unique(places[:, axes.index("t")]) if "t" in axes else np.array([0])
    if len(times) < 2:
        three = [0, len(places) // 2, len(places) - 1]
    else:
        moments = [times[0], times[len(times) // 2], times[-1]]
        at = [np.flatnonzero(places[:, axes.index("t")] == t) for t in moments]
        three = [int(some[len(some) // 2]) for some in at]
    names = ("First frame", "Middle frame", "Last frame")
    found = dict(zip(names, three, strict=True))
    distinct = {n: what for what, n in reversed(found.items())}
    return {what: n for n, what in sorted(distinct.items())}


def _evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / max(1, most - 1)) for i in range(most)})


class Histogram(Protocol):
    """Pixel values that were counted."""

    pixels: int
    """Pixels that were counted."""

    frames: int
    """Frames they belong to."""

    @property
    def level(self) -> float | None:
        """The value at which a pixel is saturated; None where there is none."""

    def add(self, frame: np.ndarray) -> None:
        """Count the pixels of a frame."""

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that occur, sorted, and how often they do."""

    @property
    def saturated(self) -> int:
        """Pixels at `level` or above."""

    @property
    def frames_saturated(self) -> int:
        """Frames with such pixels."""


def histogram_for(dtype: str, bit_depth: int | None) -> Histogram:
    """Return a histogram for pixels of `dtype` from a camera with so many significant bits."""
    kind = np.dtype(dtype)
    if kind.kind in "ui" and kind.itemsize <= 2:
        return CountedHistogram(kind, bit_depth)
    level = float(np.iinfo(kind).max) if kind.kind in "ui" else None
    return SampledHistogram(level)


class CountedHistogram:
    """Counts every value there can be."""

    def __init__(self, dtype: np.dtype, bit_depth: int | None) -> None:
        info = np.iinfo(dtype)
        self._lowest = int(info.min)
        self._counts = np.zeros(int(info.max) - self._lowest + 1, np.int64)
        self._brightest: list[int] = []
        self._bit_depth = bit_depth
        self._most = int(info.max)
        self.pixels = 0
        self.frames = 0

    def add(self, frame: np.ndarray) -> None:
        """Count the pixels of a frame."""
        flat = frame.reshape(-1)
        for start in range(0, len(flat), SLICE):
            some = flat[start : start + SLICE].astype(np.int64) - self._lowest
            counted = np.bincount(some)
            self._counts[: len(counted)] += counted
        self.frames += 1
        self.pixels += len(flat)
        self._brightest.append(int(flat.max(initial=self._lowest)))

    @property
    def level(self) -> float:
        """The camera's highest value; the highest of the type if there are pixels above that."""
        if self._bit_depth and self._bit_depth < 64:
            camera = (1 << self._bit_depth) - 1
            if camera < self._most and not self._counts[camera + 1 - self._lowest :].any():
                return camera
        return self._most

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that occur, sorted, and how often they do."""
        present = np.flatnonzero(self._counts)
        return present + self._lowest, self._counts[present]

    @property
    def saturated(self) -> int:
        """Pixels at `level` or above."""
        return int(self._counts[int(self.level) - self._lowest :].sum())

    @property
    def frames_saturated(self) -> int:
        """Frames with such pixels."""
        return sum(brightest >= self.level for brightest in self._brightest)


class SampledHistogram:
    """Keeps some pixels of each frame, evenly spaced; counts saturated ones among all."""

    def __init__(self, level: float | None) -> None:
        self.level = level
        self.pixels = 0
        self.frames = 0
        self.saturated = 0
        self.frames_saturated = 0
        self._kept: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        """Keep some pixels of a frame."""
        flat = frame.reshape(-1)
        self.frames += 1
        self.pixels += len(flat)
        if self.level is not None:
            above = int((flat >= self.level).sum())
            self.saturated += above
            self.frames_saturated += above > 0
        some = flat[:: max(1, len(flat) // VALUES_A_FRAME)].astype(np.float64)
        self._kept.append(some[np.isfinite(some)])
        while sum(map(len, self._kept)) > VALUES_KEPT:
            self._kept = [kept[::2] for kept in self._kept]

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that were kept, sorted, and how often they occur."""
        if not self._kept:
            return np.zeros(0), np.zeros(0, np.int64)
        return np.unique(np.concatenate(self._kept), return_counts=True)


def quantile(values: np.ndarray, counts: np.ndarray, share: float) -> float:
    """Return the value that so large a share of all pixels does not exceed."""
    reached = np.cumsum(counts)
    return float(values[min(np.searchsorted(reached, share * reached[-1]), len(values) - 1)])


def binned(values: np.ndarray, counts: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the left edges of equal bins, and the pixels in each; whole numbers stay whole."""
    low, high = float(values[0]), float(values[-1])
    if np.issubdtype(values.dtype, np.integer):
        width = max(1.0, np.ceil((high - low + 1) / bins))
    else:
        width = (high - low) / bins or 1.0
    where = np.minimum(((values - low) / width).astype(int), bins - 1)
    heights = np.bincount(where, counts)
    return low + width * np.arange(len(heights)), heights
