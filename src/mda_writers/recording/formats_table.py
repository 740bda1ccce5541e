"""The table of formats: what makes a format again from the header of its journal.

A new format is one file in ``formats/`` and one line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from mda_writers.errors import CorruptRecordingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.formats.format import Format

FORMATS = {
    "bigtiff": ("mda_writers.formats.bigtiff_format", "BigTiffFormat"),
    "tiff-series": ("mda_writers.formats.tiff_series", "TiffSeriesFormat"),
    "ome-zarr": ("mda_writers.formats.ome_zarr", "OmeZarrFormat"),
    "ome-zarr-objects": ("mda_writers.formats.zarr_objects", "OmeZarrObjects"),
    "video": ("mda_writers.formats.video", "VideoFormat"),
}
"""``header["format"]`` → module and class, imported when asked for. The class is made by its
class method ``of_header(header)``."""


def format_of(header: Mapping[str, Any]) -> Format:
    """Return the format of the recording that has this header.

    Raises
    ------
    CorruptRecordingError
        If the header names none that this version knows.
    """
    name = header.get("format")
    if name not in FORMATS:
        raise CorruptRecordingError(
            f"{header.get('path', 'The recording')}: its format is {name!r}; this version of "
            f"mda-writers knows {', '.join(FORMATS)}. Update mda-writers."
        )
    module, made_by = FORMATS[name]
    return cast("Format", getattr(import_module(module), made_by).of_header(header))
