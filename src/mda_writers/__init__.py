"""Save what a microscope acquires: output handlers for pymmcore-plus, and all around them."""

from importlib import import_module
from typing import Any

from mda_writers.batch.recover import recover
from mda_writers.batch.verify import verify
from mda_writers.errors import DiskFullError, WriteError
from mda_writers.writers.bigtiff import BigTiffWriter
from mda_writers.writers.ome_zarr import OMEZarrWriter
from mda_writers.writers.record import record

__version__ = "0.1.0"

CustomWriter = BigTiffWriter

__all__ = [
    "Acquisition",
    "BigTiffWriter",
    "CV2Writer",
    "CustomWriter",
    "Dataset",
    "DiskFullError",
    "MaxProjection",
    "MetaData",
    "OMEZarrWriter",
    "OutputParameters",
    "TiffSeriesWriter",
    "WriteError",
    "codecs",
    "open_dataset",
    "record",
    "recover",
    "save_array",
    "save_config_frames",
    "verify",
]

_ON_DEMAND = {
    "Acquisition": "mda_writers.acquisition.acquisition",
    "CV2Writer": "mda_writers.writers.cv2",
    "codecs": "mda_writers.formats.video_probe",
    "Dataset": "mda_writers.dataset.dataset",
    "open_dataset": "mda_writers.dataset.opening",
    "MaxProjection": "mda_writers.model.projection",
    "MetaData": "mda_writers.writers.config_frames",
    "OutputParameters": "mda_writers.writers.config_frames",
    "TiffSeriesWriter": "mda_writers.writers.tiff_series",
    "save_array": "mda_writers.writers.save_array",
    "save_config_frames": "mda_writers.writers.config_frames",
}
"""Names whose modules are imported when they are asked for: ``import mda_writers`` stays quick."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_DEMAND[name]), name)
