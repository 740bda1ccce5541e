"""The versions of everything that took part in a session."""

from __future__ import annotations

import platform
import re
from functools import cache
from importlib import metadata

from mda_writers._version import __version__

PACKAGE = "mda-writers"
NOT_NAMED = ("imagecodecs", "mm-test-adapters", "pymmcore")
"""What takes part without being required by name: through tifffile and pymmcore-plus."""


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, the system, this package and all that it stands on."""
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        PACKAGE: __version__,
    }
    for name in (*NOT_NAMED, *_required()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed
    return found


def _required() -> list[str]:
    """Return the packages that ours names; those of extras, too, but not its own tests' tools."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:  # run from a copy that is not installed
        return ["numpy", "pymmcore-plus", "tifffile", "useq-schema", "zarr"]
    lines = [line for line in lines if not re.search(r"extra == .(test|bench)", line)]
    return sorted({re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines})
