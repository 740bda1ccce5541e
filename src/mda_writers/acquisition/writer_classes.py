"""Which writer a suffix stands for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mda_writers.writers.mda_writer import MDAWriter

WRITERS = {
    ".ome.tiff": "BigTiffWriter",
    ".ome.tif": "BigTiffWriter",
    ".tiff": "BigTiffWriter",
    ".tif": "BigTiffWriter",
    ".ome.zarr": "OMEZarrWriter",
    ".zarr": "OMEZarrWriter",
    ".mp4": "CV2Writer",
    ".avi": "CV2Writer",
    ".mkv": "CV2Writer",
}
"""By name: zarr and OpenCV are imported when somebody wants such a writer, not before."""


def writer_class(suffix: str) -> type[MDAWriter]:
    """Return the writer for `suffix`.

    Raises
    ------
    ValueError
        If there is none.
    """
    name = WRITERS.get(suffix.lower())
    if name is None:
        raise ValueError(f"{suffix}: no writer for this suffix. There are {', '.join(WRITERS)}.")
    found: Any = getattr(import_module("mda_writers"), name)
    return found  # type: ignore[no-any-return]
