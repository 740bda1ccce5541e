"""The one door to the deprecated ``pymmcore_plus.mda.handlers`` module.

pymmcore-plus 0.18 deprecated its handlers and will remove them. As long as they exist, our
writers are instances of its ``OMETiffWriter``, so that ``isinstance`` checks in acquisition
scripts keep holding; once they are gone, the class below takes its place.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


class HandlerBase:
    """The hooks and attributes of pymmcore-plus's ``OMETiffWriter``, without its behaviour.

    ``MDAWriter`` overrides everything that does something; what is declared here is what other
    code may ask an output handler for.
    """

    position_arrays: dict[str, Any]
    current_sequence: Any

    @property
    def position_sizes(self) -> list[dict[str, int]]:
        """Axis → size of every image, in order."""
        raise NotImplementedError

    def sequenceStarted(self, seq: Any, meta: Any = None) -> None:
        """Receive the sequence that begins, and the summary metadata."""

    def frameReady(self, frame: np.ndarray, event: Any, meta: Mapping[str, Any]) -> None:
        """Receive one frame, its event, and its metadata."""

    def sequenceFinished(self, seq: Any) -> None:
        """Receive the end of the sequence."""

    def new_array(self, position_key: str, dtype: np.dtype, sizes: dict[str, int]) -> Any:
        """Create the array on disk for one position."""
        raise NotImplementedError

    def write_frame(self, ary: Any, index: tuple[int, ...], frame: np.ndarray) -> None:
        """Write one frame into its array."""
        ary[index] = frame

    def finalize_metadata(self) -> None:
        """Write what is only known at the end of a sequence."""


def _handler_base() -> type:
    with warnings.catch_warnings():
        # the module announces its own removal; that is why this package exists
        warnings.simplefilter("ignore", FutureWarning)
        try:
            from pymmcore_plus.mda.handlers import OMETiffWriter as upstream_writer
        except ImportError:
            return HandlerBase
    return upstream_writer


if TYPE_CHECKING:
    # so that a misspelt method of a writer is found: upstream's class is Any to a type checker
    OMETiffWriter = HandlerBase
else:
    OMETiffWriter = _handler_base()
