"""The versions of everything that took part in a session."""

from __future__ import annotations

import platform
import re
from functools import cache
from importlib import metadata

from mda_writers._version import __version__

PACKAGE = "mda-writers"


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, the system, this package and all that it stands on."""
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        PACKAGE: __version__,
    }
    for name in ("pymmcore", "mm-test-adapters", *_required()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed
    return found


def _required() -> list[str]:
    """Return the packages that ours names, extras among them."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:  # run from a copy that nobody installed
        return ["numpy", "pymmcore-plus", "tifffile", "useq-schema", "zarr"]
    return sorted({re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines})
