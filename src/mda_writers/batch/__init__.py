"""Work on recordings that exist: one or thousands, on this machine or on a Dask cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mda_writers.batch.contact import contact_sheet
    from mda_writers.batch.conversion import convert
    from mda_writers.batch.delta_f import dff
    from mda_writers.batch.merging import merge
    from mda_writers.batch.projection import project
    from mda_writers.batch.summary import BatchError, Summary
    from mda_writers.batch.traces import trace

__all__ = [
    "BatchError",
    "Summary",
    "contact_sheet",
    "convert",
    "dff",
    "merge",
    "project",
    "trace",
]

_ON_DEMAND = {
    "BatchError": "summary",
    "Summary": "summary",
    "contact_sheet": "contact",
    "convert": "conversion",
    "dff": "delta_f",
    "merge": "merging",
    "project": "projection",
    "trace": "traces",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
