"""What users construct: output handlers, also usable without an acquisition."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mda_writers.errors import UnknownOptionError
from mda_writers.model.names import split_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mda_writers.writers.base import MDAWriter


_WRITERS = {
    "tiff.BigTiffWriter": (".ome.tif", ".ome.tiff", ".tif", ".tiff"),
    "zarr.OMEZarrWriter": (".ome.zarr", ".zarr"),
    "video.CV2Writer": (".mp4", ".avi", ".mkv"),
}

WRITERS = {
    ".ome.tiff": "BigTiffWriter",
    ".ome.tif": "BigTiffWriter",
    ".tiff": "BigTiffWriter",
    ".tif": "BigTiffWriter",
    ".ome.zarr": "OMEZarrWriter",
    ".zarr": "OMEZarrWriter",
    ".mp4": "CV2Writer",
    ".avi": "CV2Writer",
    ".mkv": "CV2Writer",
}
"""By name: zarr and OpenCV are imported when somebody wants such a writer, not before."""


def writer_for(path: Path) -> type[MDAWriter]:
    """Return the writer for a file name.

    Raises
    ------
    ValueError
        If no writer makes such files.
    """
    suffix = split_suffix(path.name)[1].lower()
    for name, suffixes in _WRITERS.items():
        if suffix in suffixes:
            module, made_by = name.split(".")
            found: type[MDAWriter] = getattr(
                import_module(f"mda_writers.writers.{module}"), made_by
            )
            return found
    known = ", ".join(suffix for suffixes in _WRITERS.values() for suffix in suffixes)
    raise ValueError(
        f"{path.name}: nothing writes {suffix or 'a name without suffix'}; {known} do."
    )


def is_recording_name(path: Path) -> bool:
    """Whether the name is one that a writer makes."""
    suffix = split_suffix(path.name)[1].lower()
    return any(suffix in suffixes for suffixes in _WRITERS.values())


def check_options(path: Path, options: Mapping[str, Any], also: Iterable[str] = ()) -> None:
    """Refuse options that the writer for `path` does not take, before anything is done.

    `also` are the options of the call that takes the writer's, too: they may have been meant.

    Raises
    ------
    ValueError, TypeError
        As the writer says.
    """
    import tempfile
    from pathlib import Path as AnyPath

    with tempfile.TemporaryDirectory() as folder:
        try:
            writer_for(path)(AnyPath(folder) / path.name, **options)
        except UnknownOptionError as error:
            raise UnknownOptionError(error.who, error.name, {*error.known, *also}) from None


def writer_class(suffix: str) -> type[MDAWriter]:
    """Return the writer for `suffix`.

    Raises
    ------
    ValueError
        If there is none.
    """
    name = WRITERS.get(suffix.lower())
    if name is None:
        raise ValueError(f"{suffix}: no writer for this suffix. There are {', '.join(WRITERS)}.")
    found: Any = getattr(import_module("mda_writers"), name)
    return found  # type: ignore[no-any-return]
