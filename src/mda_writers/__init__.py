"""Save what a microscope acquires: output handlers for pymmcore-plus, and all around them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mda_writers._version import __version__
from mda_writers.errors import (
    BacklogError,
    CoordinateError,
    CorruptRecordingError,
    DiskFullError,
    FrameError,
    MissingFrameError,
    MissingFramesError,
    RecordingError,
    UnknownOptionError,
    WriteError,
)

if TYPE_CHECKING:
    from mda_writers.acquisition.acquisition import Acquisition
    from mda_writers.batch.conversion import convert
    from mda_writers.batch.executor import BatchError
    from mda_writers.batch.jobs import FaultsFoundError
    from mda_writers.dataset.dataset import Dataset
    from mda_writers.dataset.opening import open_dataset
    from mda_writers.formats.base import Format, FrameArray
    from mda_writers.formats.video.probe import video_codecs
    from mda_writers.model.options import MaxProjection
    from mda_writers.recording.recover import recover
    from mda_writers.recording.verify import verify
    from mda_writers.writers import register_format
    from mda_writers.writers.base import MDAWriter
    from mda_writers.writers.record import record
    from mda_writers.writers.save_array import (
        MetaData,
        OutputParameters,
        save_array,
        save_config_frames,
    )
    from mda_writers.writers.tiff import BigTiffWriter, TiffSeriesWriter
    from mda_writers.writers.tiff import BigTiffWriter as CustomWriter
    from mda_writers.writers.video import CV2Writer
    from mda_writers.writers.zarr import OMEZarrWriter

__all__ = [
    "Acquisition",
    "BacklogError",
    "BatchError",
    "BigTiffWriter",
    "CV2Writer",
    "CoordinateError",
    "CorruptRecordingError",
    "CustomWriter",
    "Dataset",
    "DiskFullError",
    "FaultsFoundError",
    "Format",
    "FrameArray",
    "FrameError",
    "MDAWriter",
    "MaxProjection",
    "MetaData",
    "MissingFrameError",
    "MissingFramesError",
    "OMEZarrWriter",
    "OutputParameters",
    "RecordingError",
    "TiffSeriesWriter",
    "UnknownOptionError",
    "WriteError",
    "__version__",
    "convert",
    "open_dataset",
    "record",
    "recover",
    "register_format",
    "save_array",
    "save_config_frames",
    "verify",
    "video_codecs",
]

_ON_DEMAND = {
    "Acquisition": "acquisition.acquisition",
    "BatchError": "batch.executor",
    "BigTiffWriter": "writers.tiff",
    "CV2Writer": "writers.video",
    "CustomWriter": "writers.tiff",
    "Dataset": "dataset.dataset",
    "FaultsFoundError": "batch.jobs",
    "Format": "formats.base",
    "FrameArray": "formats.base",
    "MDAWriter": "writers.base",
    "MaxProjection": "model.options",
    "MetaData": "writers.save_array",
    "OMEZarrWriter": "writers.zarr",
    "OutputParameters": "writers.save_array",
    "TiffSeriesWriter": "writers.tiff",
    "convert": "batch.conversion",
    "open_dataset": "dataset.opening",
    "record": "writers.record",
    "recover": "recording.recover",
    "register_format": "writers",
    "save_array": "writers.save_array",
    "save_config_frames": "writers.save_array",
    "verify": "recording.verify",
    "video_codecs": "formats.video.probe",
}
"""Names whose modules are imported when they are asked for: ``import mda_writers`` stays quick."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
    globals()[name] = found
    return found
