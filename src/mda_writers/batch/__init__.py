"""Work on recordings that exist: one or thousands, on this machine or on a Dask cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mda_writers.batch.contact import contact_sheet
    from mda_writers.batch.conversion import convert
    from mda_writers.batch.delta_f import dff
    from mda_writers.batch.merging import merge
    from mda_writers.batch.projection import project
    from mda_writers.batch.recovering import recover_all
    from mda_writers.batch.summary import BatchError, Summary
    from mda_writers.batch.traces import trace
    from mda_writers.batch.verifying import verify_all

__all__ = [
    "BatchError",
    "Summary",
    "contact_sheet",
    "convert",
    "dff",
    "merge",
    "project",
    "recover_all",
    "trace",
    "verify_all",
]

_ON_DEMAND = {
    "BatchError": "summary",
    "Summary": "summary",
    "contact_sheet": "contact",
    "convert": "conversion",
    "dff": "delta_f",
    "merge": "merging",
    "project": "projection",
    "recover_all": "recovering",
    "trace": "traces",
    "verify_all": "verifying",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
