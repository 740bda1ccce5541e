"""Work on recordings that exist: one or thousands, on this machine or on a Dask cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mda_writers.batch.conversion import convert
    from mda_writers.batch.summary import BatchError, Summary

__all__ = ["BatchError", "Summary", "convert"]

_ON_DEMAND = {
    "BatchError": "summary",
    "Summary": "summary",
    "convert": "conversion",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
