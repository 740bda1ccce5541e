"""A recording in OME-Zarr as stock readers see it: what every test of the format asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson


def sidecar(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the sidecar of a recording."""
    return orjson.loads(path.with_name(path.name + "_frame_metadata.json").read_bytes())


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


def frames_by_sidecar(path: Path, read: Any) -> list[tuple[dict[str, int], np.ndarray]]:
    """Return (index, pixels) of every frame that the sidecar names, in order of arrival."""
    arrays: dict[str, np.ndarray] = {}
    found = []
    for frames in sidecar(path).values():
        for frame in frames:
            ours = frame["mda_writers"]
            folder = path.parent / ours["file"] / ours["array"]
            if str(folder) not in arrays:
                arrays[str(folder)] = read(folder)
            planes = [arrays[str(folder)][tuple(place)] for place in ours["planes"]]
            pixels = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
            found.append((ours["number"], ours["index"], pixels))
    return [(index, pixels) for _, index, pixels in sorted(found, key=lambda f: f[0])]
