"""The writer of videos."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mda_writers.formats.video.format import VideoArray, VideoFormat
from mda_writers.formats.video.options import VideoOptions
from mda_writers.formats.video.probe import choose_codec
from mda_writers.model.options import FrameSelection
from mda_writers.writers.base import ColorOrder, MDAWriter, color_order_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from useq import MDAEvent

    from mda_writers.model.layout import Layout
    from mda_writers.model.locate import Locator

_FPS = (0.01, 1000.0)
"""Rates that every container can hold; Matroska counts in milliseconds."""

_logger = logging.getLogger("mda_writers")


class CV2Writer(MDAWriter):
    """Saves a recording as video: one file per position, channel and camera.

    Within a file the frames follow one another as they were acquired, through z and t. A
    recording of one position and channel is ``film.mp4``; of several, ``film_<position>.mp4``,
    ``film_<channel>.mp4`` or ``film_<position>_<channel>.mp4``. The sidecar says for every frame
    in which file it is, as which frame, and when it was taken.

    Each frame is in its file before it counts as written: a process that is killed leaves videos
    that play up to the last one. At the end each gets its ordinary form, with an index, and is
    read back.

    Parameters
    ----------
    filename : path-like
        ``.mp4``, ``.avi`` or ``.mkv``.
    fps : float
        Frames per second when it is played.
    fourcc : str
        The codec: ``H264``, ``HEVC``, ``VP90``, ``mp4v``, ``XVID``, ``MJPG``, or ``FFV1``, which
        is lossless and takes 16 bits (best in an ``.mkv``). `video_codecs` lists what works on this
        machine. What does not is replaced by the nearest that does, with a warning; FFV1 is not.
    contrast_limits : (float, float), "full" or "auto", optional
        How pixels of more than 8 bits become 8: the values that are shown black and white; all
        that the camera's bit depth has; or what the first frames have (between the percentiles 0.1
        and 99.9 of up to eight). It is the same for all frames of a video; with ``"auto"`` each
        position and channel has limits of its own. They are kept in the video and in
        ``…_recording.json``, under ``videos``. By default
        ``"full"`` for integers up to 16 bits, else ``"auto"``; and FFV1 needs none for those.
        ``uint8`` stays as it is, unless limits are given.
    timing : "constant" or "real"
        Whether frames are shown at `fps`, or at the times at which they were taken (not in AVI,
        which has no times).
    decimate : int
        Every how many frames of each video one is kept, beginning with the first. The others are
        listed as acquired and not saved.
    scale : float
        Size of the video relative to the frames, up to 1.
    color_order : "RGB" or "BGR", optional
        Order of the colours in the frames given. By default RGB for those of an acquisition, as
        Micro-Manager delivers them, and BGR for those given to `add_frame`, as OpenCV's cameras do
        and ``cv2.VideoWriter`` takes them. What is read back is RGB.
    **options
        The common options of `MDAWriter`.

    Raises
    ------
    ValueError
        If an option makes no sense, or nothing can encode what was asked for.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".mp4", ".avi", ".mkv")
    default_color_order: ClassVar[ColorOrder] = "BGR"
    takes_bgr: ClassVar[bool] = True

    def __init__(
        self,
        filename: str | Path,
        fps: float = 30,
        fourcc: str = "H264",
        *,
        contrast_limits: tuple[float, float] | Literal["full", "auto"] | None = None,
        timing: Literal["constant", "real"] = "constant",
        decimate: int = 1,
        scale: float = 1.0,
        color_order: Literal["RGB", "BGR"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(filename, **options)
        suffix = self.path.suffix.lower()
        codec, instead = choose_codec(_four_letters(fourcc), suffix)
        if instead:
            warnings.warn(f"{self.path.name}: {instead}", stacklevel=2)
        _logger.info("%s: %s by %s", self.path.name, codec.fourcc, codec.encoded_by)
        self._video = VideoOptions(
            codec=codec,
            asked=fourcc,
            suffix=suffix,
            fps=_rate(fps),
            contrast_limits=_limits(contrast_limits),
            timing=_timing(timing, suffix),
            scale=_scale(scale),
        )
        self._color_order = None if color_order is None else color_order_of(color_order)
        self._decimate = _count(decimate)
        self._save_frame = options.get("save_frame")
        if self._decimate > 1 and self._save_frame is not None:
            raise ValueError("decimate and save_frame both choose frames: give one of them.")

    def new_array(self, position_key: str, dtype: np.dtype, sizes: dict[str, int]) -> VideoArray:
        """Prepare the videos of one image; each file begins with its first frame.

        Parameters
        ----------
        position_key : str
            The image's key.
        dtype : dtype
            Pixel type.
        sizes : dict
            Axis → size, slowest first, with y and x (and s for colour).
        """
        run = self._current_run()
        pool: Any = run.pool  # VideoFormat.new_pool made it
        return VideoArray(
            run.path.parent,
            lambda: run.locator.image(position_key),
            self._video,
            pool,
            run.layout.bit_depth,
        )

    def format(self, set_id: str) -> VideoFormat:
        """Return how the files of a recording begin, and get their final form."""
        return VideoFormat()

    def _begin_run(self, locator: Locator, layout: Layout, header: Mapping[str, Any]) -> None:
        order = self._direct.color_order if self._direct else self._color_order or "RGB"
        self._video = replace(self._video, color_order=color_order_of(order))
        if self._decimate > 1:
            self._selection = FrameSelection(_EveryNth(self._decimate))  # it counts anew
        super()._begin_run(locator, layout, header)


class _EveryNth:
    """Keeps the first and then every n-th frame of each video."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._seen: Counter[frozenset[tuple[str, int]]] = Counter()

    def __call__(self, event: MDAEvent, metadata: Mapping[str, Any]) -> bool:
        video = frozenset((a, i) for a, i in event.index.items() if a not in ("t", "z"))
        number = self._seen[video]
        self._seen[video] += 1
        return number % self._n == 0


def _four_letters(fourcc: str) -> str:
    if not isinstance(fourcc, str) or not 3 <= len(fourcc) <= 5:
        raise ValueError(
            f'fourcc is the four letters of a codec, such as "H264" or "FFV1", not {fourcc!r}.'
        )
    return fourcc


def _rate(fps: float) -> Fraction:
    if not isinstance(fps, int | float | Fraction) or not (
        isfinite(fps) and _FPS[0] <= fps <= _FPS[1]
    ):
        raise ValueError(
            f"fps is a rate between {_FPS[0]} and {_FPS[1]:.0f} frames per second, not {fps!r}. "
            'For frames that are further apart, timing="real" shows them at their own times.'
        )
    # 29.97 means 30000/1001
    return Fraction(fps).limit_denominator(1001)


def _limits(limits: Any) -> Any:
    if limits is None or limits in ("full", "auto"):
        return limits
    try:
        low, high = (float(limit) for limit in limits)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ValueError(
            f'contrast_limits is (low, high) with low < high, "full" or "auto", not {limits!r}.'
        )
    return (low, high)


def _timing(timing: Any, suffix: str) -> Any:
    if _one_of("timing", timing, ("constant", "real")) == "real" and suffix == ".avi":
        raise ValueError('AVI has no presentation times: use .mkv or .mp4 for timing="real".')
    return timing


def _scale(scale: float) -> float:
    if not isinstance(scale, int | float) or not 0 < scale <= 1:
        raise ValueError(f"scale is a number greater than 0 and up to 1, not {scale!r}.")
    return float(scale)


def _count(decimate: int) -> int:
    if not isinstance(decimate, int) or decimate < 1:
        raise ValueError(f"decimate is a whole number from 1 on, not {decimate!r}.")
    return decimate


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}.")
    return value
