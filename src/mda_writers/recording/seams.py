"""What a writer decides about a recording: what it may use, and what a subclass does instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from mda_writers.errors import WriteError
    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.run import Run


@dataclass(frozen=True, slots=True)
class Limits:
    """What a recording may use. Bytes and milliseconds; see ``MDAWriter``."""

    queue_bytes: int
    min_free_bytes: int
    sync_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Seams:
    """What a writer, or a user's subclass of one, decides about a recording."""

    new_array: Callable[[Run, ImageLayout], Any]
    write_frame: Callable[[Any, tuple[int, ...], np.ndarray], None]
    finalize_metadata: Callable[[], None]
    cancel: Callable[[WriteError], None]
    ended: Callable[[Path], None] = lambda path: None
