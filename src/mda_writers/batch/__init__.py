"""Work on recordings that exist: one or thousands, on this machine or on a Dask cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mda_writers.batch.contact import contact_sheet
    from mda_writers.batch.conversion import convert
    from mda_writers.batch.executor import BatchError, Summary
    from mda_writers.batch.many import recover_all, verify_all
    from mda_writers.batch.merging import merge
    from mda_writers.batch.projection import project
    from mda_writers.batch.traces import dff, trace

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
    "BatchError": "executor",
    "Summary": "executor",
    "contact_sheet": "contact",
    "convert": "conversion",
    "dff": "traces",
    "merge": "merging",
    "project": "projection",
    "recover_all": "many",
    "trace": "traces",
    "verify_all": "many",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
