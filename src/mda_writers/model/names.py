"""File names: legal on every system, unique, and never broken inside ``.ome.tiff``."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

MAX_NAME_LENGTH = 80
"""Characters kept of a position's name: with the recording's own name in front and the
sidecar's suffix behind, the file name stays under the 255 bytes of common file systems."""

_DOUBLE_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.zarr")

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_NUMBERED = {f"{device}{n}" for device in ("com", "lpt") for n in "123456789¹²³"}
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | _NUMBERED
_ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


def split_suffix(name: str) -> tuple[str, str]:
    """Return the stem and the whole suffix: ``"a.b.ome.tiff"`` → ``("a.b", ".ome.tiff")``."""
    lower = name.lower()
    for suffix in _DOUBLE_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def with_stem_suffix(path: Path, addition: str) -> Path:
    """Return `path` with `addition` put before its whole suffix."""
    stem, suffix = split_suffix(path.name)
    return path.with_name(f"{stem}{addition}{suffix}")


def safe_name(name: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return `name` as a file name that Windows, macOS and Linux all accept.

    Letters of any script stay. What a file system forbids becomes ``-``; a name that nothing is
    left of becomes ``_``. Two names may become one: see `unique_name`.
    """
    text = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cs", "Cf"))
    # an encoded file name is NFC on Linux and Windows; macOS would fold two spellings into one
    text = _ILLEGAL.sub("-", unicodedata.normalize("NFC", text))
    text = _shorten(text, max_length).strip(" .")
    if text.split(".")[0].rstrip(" ").lower() in _RESERVED:
        text = f"_{text}"
    return text or "_"


def unique_name(name: str, taken: Container[str]) -> str:
    """Return `name`, or `name` with the first free number, so that its folded form is new.

    Parameters
    ----------
    name : str
        A safe name.
    taken : container of str
        Folded names (`fold`) that exist already.
    """
    if fold(name) not in taken:
        return name
    number = 1
    while fold(f"{name}_{number}") in taken:
        number += 1
    return f"{name}_{number}"


def fold(name: str) -> str:
    """Return what two names have in common if a file system would take them for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())


def _shorten(text: str, max_length: int) -> str:
    text = text[:max_length]
    # file systems count bytes, and a letter may have four
    while len(text.encode()) > 2 * max_length:
        text = text[:-1]
    return text
