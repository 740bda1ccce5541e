"""Options of writers: which frames to save, and maximum projections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from useq import MDAEvent

from mda_writers.errors import WriteError
from mda_writers.model.layout import AXES
from mda_writers.model.locate import readable

if TYPE_CHECKING:
    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout


Decide = Callable[[MDAEvent, Mapping[str, Any]], bool]


class FrameSelection:
    """Decides of each frame whether its pixels are kept.

    Parameters
    ----------
    save_frame : iterable of bool, or callable
        A flag for each frame, by its number in the order of arrival; or
        ``save_frame(event, metadata) -> bool``, asked on the writing thread.

    Raises
    ------
    ValueError
        If the flags are not flags.
    """

    def __init__(self, save_frame: Iterable[bool] | Decide) -> None:
        self._decide = save_frame if callable(save_frame) else None
        self._flags = None if callable(save_frame) else _flags(save_frame)

    def check(self, frames_expected: int | None) -> None:
        """Compare the flags with the length of the plan, before anything is written.

        Raises
        ------
        WriteError
            If their numbers differ.
        """
        if self._flags is None or frames_expected in (None, len(self._flags)):
            return
        raise WriteError(
            f"save_frame has {len(self._flags)} flags, and the plan has {frames_expected} frames. "
            "Nothing was written; give one flag for each frame, or a function (event, metadata)."
        )

    def keeps(self, frame: Frame, number: int) -> bool:
        """Return whether the pixels of `frame` are kept; what has no flag is.

        Raises
        ------
        WriteError
            If the user's function fails: what was wanted is not known then.
        """
        if self._flags is not None:
            return number >= len(self._flags) or bool(self._flags[number])
        assert self._decide is not None
        metadata = frame.metadata
        if isinstance(metadata, bytes):
            metadata = orjson.loads(metadata)
        event = frame.event or MDAEvent(index=dict(frame.index))
        try:
            return bool(self._decide(event, metadata))
        except Exception as error:
            raise WriteError(
                f"save_frame failed at frame {number}, {readable(frame.index)} "
                f"({type(error).__name__}: {error}). The {number} frames before it are as it said; "
                "the acquisition was cancelled, for what to keep of the others is not known."
            ) from error


def _flags(save_frame: Iterable[bool]) -> np.ndarray:
    if isinstance(save_frame, str | bytes) or not isinstance(save_frame, Iterable):
        raise ValueError(
            f"save_frame takes a flag for each frame, or a function (event, metadata) -> bool, "
            f"not {save_frame!r}."
        )
    flags = np.asarray(list(save_frame))
    if flags.ndim != 1 or not np.isin(flags, (0, 1)).all():
        raise ValueError(
            f"save_frame takes True or False for each frame, not {flags.tolist()[:5]}… . For a "
            "list of frame numbers, pass [n in numbers for n in range(count)]."
        )
    return flags.astype(bool)


@dataclass(frozen=True, slots=True)
class MaxProjection:
    """What ``max_projection`` of a writer may be; ``True`` stands for ``MaxProjection()``.

    For every position and every index of the other axes there is one image: the maximum of the
    frames taken, in their own type, as OME-TIFF in ``<name>_projections/``. A stack that was cut
    short has the maximum of what was taken.

    Attributes
    ----------
    axes : str
        The axes to project, out of t, c and z.
    preview : bool
        Whether to put an 8-bit PNG, stretched from its darkest to its brightest value, beside
        each image.
    unsaved : bool
        Whether frames that ``save_frame`` does not keep are seen, too.
    """

    axes: str = "z"
    preview: bool = False
    unsaved: bool = False

    def __post_init__(self) -> None:
        axes = "".join(self.axes)
        if not axes or not set(axes) <= set(AXES):
            raise ValueError(
                f"max_projection takes axes out of {', '.join(AXES)}, not {self.axes!r}."
            )
        object.__setattr__(self, "axes", axes)

    def disk_bytes(self, image: ImageLayout) -> int:
        """Return the bytes of the projections of an image."""
        return image.nbytes // prod(image.sizes.get(axis, 1) for axis in self.axes)

    @classmethod
    def of(cls, value: Any) -> MaxProjection | None:
        """Return what `value` stands for: options, axes, True, or nothing.

        Raises
        ------
        ValueError
            If it is none of them.
        """
        if value is None or value is False:
            return None
        if value is True:
            return cls()
        return value if isinstance(value, cls) else cls(value)
