"""Save what a microscope acquires: output handlers for pymmcore-plus, and all around them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mda_writers._version import __version__
from mda_writers.errors import DiskFullError, MissingFramesError, WriteError

if TYPE_CHECKING:
    from mda_writers.acquisition.acquisition import Acquisition
    from mda_writers.batch.conversion import convert
    from mda_writers.batch.recover import recover
    from mda_writers.batch.verify import verify
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.dataset.opening import open_dataset
    from mda_writers.formats.video_probe import codecs
    from mda_writers.model.projection import MaxProjection
    from mda_writers.writers.bigtiff import BigTiffWriter
    from mda_writers.writers.bigtiff import BigTiffWriter as CustomWriter
    from mda_writers.writers.config_frames import MetaData, OutputParameters, save_config_frames
    from mda_writers.writers.cv2 import CV2Writer
    from mda_writers.writers.ome_zarr import OMEZarrWriter
    from mda_writers.writers.record import record
    from mda_writers.writers.save_array import save_array
    from mda_writers.writers.tiff_series import TiffSeriesWriter

__all__ = [
    "Acquisition",
    "BigTiffWriter",
    "CV2Writer",
    "CustomWriter",
    "Dataset",
    "DiskFullError",
    "MaxProjection",
    "MetaData",
    "MissingFramesError",
    "OMEZarrWriter",
    "OutputParameters",
    "TiffSeriesWriter",
    "WriteError",
    "__version__",
    "codecs",
    "convert",
    "open_dataset",
    "record",
    "recover",
    "save_array",
    "save_config_frames",
    "verify",
]

_ON_DEMAND = {
    "Acquisition": "acquisition.acquisition",
    "BigTiffWriter": "writers.bigtiff",
    "CV2Writer": "writers.cv2",
    "CustomWriter": "writers.bigtiff",
    "Dataset": "dataset.dataset",
    "MaxProjection": "model.projection",
    "MetaData": "writers.config_frames",
    "OMEZarrWriter": "writers.ome_zarr",
    "OutputParameters": "writers.config_frames",
    "TiffSeriesWriter": "writers.tiff_series",
    "codecs": "formats.video_probe",
    "convert": "batch.conversion",
    "open_dataset": "dataset.opening",
    "record": "writers.record",
    "recover": "batch.recover",
    "save_array": "writers.save_array",
    "save_config_frames": "writers.config_frames",
    "verify": "batch.verify",
}
"""Names whose modules are imported when they are asked for: ``import mda_writers`` stays quick."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
    globals()[name] = found
    return found
