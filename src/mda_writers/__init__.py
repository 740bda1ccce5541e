"""Save what a microscope acquires: output handlers for pymmcore-plus, and all around them."""

from mda_writers.batch.recover import recover
from mda_writers.batch.verify import verify
from mda_writers.errors import DiskFullError, WriteError
from mda_writers.writers.bigtiff import BigTiffWriter
from mda_writers.writers.record import record

__version__ = "0.1.0"

CustomWriter = BigTiffWriter

__all__ = [
    "BigTiffWriter",
    "CustomWriter",
    "DiskFullError",
    "WriteError",
    "record",
    "recover",
    "verify",
]
