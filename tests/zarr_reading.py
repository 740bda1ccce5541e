"""An array of an OME-Zarr as stock readers see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_with_zarr(folder: Path) -> np.ndarray:
    """Return a whole array, read by zarr-python."""
    import zarr

    return np.asarray(zarr.open_array(folder, mode="r")[...])


def read_with_tensorstore(folder: Path) -> np.ndarray:
    """Return a whole array, read by tensorstore."""
    import tensorstore

    driver = "zarr3" if (folder / "zarr.json").exists() else "zarr"
    store = {"driver": "file", "path": str(folder)}
    spec = {"driver": driver, "kvstore": store, "open": True}
    return np.asarray(tensorstore.open(spec).result().read().result())
