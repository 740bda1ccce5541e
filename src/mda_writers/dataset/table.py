"""The frames' metadata as a table: one row a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.dataset.coordinates import Coordinates
    from mda_writers.dataset.sources import FrameSource


def frames_table(source: FrameSource, coordinates: Coordinates) -> Any:
    """Return a pandas ``DataFrame`` if pandas is installed, else a list of dicts."""
    rows = list(_rows(source, coordinates))
    try:
        import pandas  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def _rows(source: FrameSource, coordinates: Coordinates) -> Iterator[dict[str, Any]]:
    """Yield coordinates and metadata; what a frame's metadata groups becomes ``group.name``."""
    for key, frame in source.frames():
        image = coordinates.image(key)
        ours = frame.get("mda_writers", {})
        place = tuple(ours.get("place", ()))
        plain = {name: value for name, value in frame.items() if name != "mda_writers"}
        where = coordinates.of(image, place)
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
