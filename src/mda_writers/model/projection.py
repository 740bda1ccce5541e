"""Which maximum projections to make while frames come."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from mda_writers.model.layout import AXES

if TYPE_CHECKING:
    from mda_writers.model.layout import ImageLayout


@dataclass(frozen=True, slots=True)
class MaxProjection:
    """What ``max_projection`` of a writer may be told; ``True`` stands for ``MaxProjection()``.

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
