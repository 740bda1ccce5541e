"""What a finished recording knows about each of its planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


PLANES_DESCRIBED = 10_000
"""Planes of one image up to which each has its times and positions in the file itself. In
OME-XML a plane takes about 200 bytes, which every reader parses when it opens the file: 100 000
would be 20 MB and seconds. Beyond, they are in the sidecar only, which has them in any case."""


@dataclass(frozen=True, slots=True)
class PlaneInfo:
    """What is known about one plane; None where it is not.

    `place` is its index in the order of the image's sizes, `ifd` its number in its file, `file`
    that file's name, and `offset_bytes` where in it the pixels begin, where the format says so.
    Times are in seconds, positions in µm.
    """

    place: tuple[int, ...]
    ifd: int
    delta_t_s: float | None = None
    exposure_s: float | None = None
    position_um: tuple[float | None, float | None, float | None] = (None, None, None)
    file: str = ""
    offset_bytes: int | None = None

    @classmethod
    def from_frame(cls, frame: Mapping[str, Any]) -> PlaneInfo:
        """Return the plane of a frame's entry in the journal.

        The camera's exposure and the stage's position are those of ``FrameMetaV1``; the planned
        position stands in where the stage was not asked, as in hardware-triggered sequences.
        """
        ours = frame["mda_writers"]
        event, actual = _mapping(frame, "mda_event"), _mapping(frame, "position")
        return cls(
            place=tuple(ours["place"]),
            ifd=slot_of(ours, ours["number"]),
            delta_t_s=_divided(frame.get("runner_time_ms"), 1000),
            exposure_s=_divided(frame.get("exposure_ms"), 1000),
            position_um=tuple(  # type: ignore[arg-type]
                _divided(actual.get(axis, event.get(f"{axis}_pos")), 1) for axis in "xyz"
            ),
            file=ours.get("file", ""),
            offset_bytes=ours.get("offset_bytes"),
        )


def slot_of(ours: Mapping[str, Any], default: int) -> int:
    """Return a frame's number in its file: of a TIFF's IFDs, or of a video's frames."""
    return int(ours.get("ifd", ours.get("frame", default)))


def _mapping(frame: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an entry of a frame's metadata, which in direct mode may be anything."""
    entry = frame.get(name)
    return entry if isinstance(entry, dict) else {}


def _divided(value: Any, divisor: int) -> float | None:
    return value / divisor if isinstance(value, int | float) else None
