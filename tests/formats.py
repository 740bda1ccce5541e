"""Every format there is, in its variants, for tests of what must hold in all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mda_writers import BigTiffWriter, CV2Writer, OMEZarrWriter, TiffSeriesWriter

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.writers.base import MDAWriter

# name → class, file name, options; all of them lossless
FORMATS: dict[str, tuple[type[MDAWriter], str, dict[str, Any]]] = {
    "ome_tiff": (BigTiffWriter, "exp.ome.tiff", {}),
    "compressed_tiff": (BigTiffWriter, "exp.ome.tiff", {"compression": "zlib"}),
    "plain_tiff": (BigTiffWriter, "exp.tif", {}),
    "tiff_series": (TiffSeriesWriter, "exp", {}),
    "zarr_05": (OMEZarrWriter, "exp.ome.zarr", {}),
    "zarr_04": (OMEZarrWriter, "exp.ome.zarr", {"ngff_version": "0.4"}),
    "compressed_zarr": (OMEZarrWriter, "exp.ome.zarr", {"compression": "blosc-lz4"}),
    "sharded_zarr": (OMEZarrWriter, "exp.ome.zarr", {"shards": {"t": 2, "z": 2, "c": 2}}),
    "zarr_levels": (OMEZarrWriter, "exp.ome.zarr", {"levels": 2}),
    "video": (CV2Writer, "exp.mkv", {"fourcc": "FFV1"}),
}


def new_writer(name: str, folder: Path, **options: Any) -> MDAWriter:
    """Return a writer of one of `FORMATS`, for a recording in `folder`."""
    made, file, own = FORMATS[name]
    return made(folder / file, **own, **options)
