"""What users construct: output handlers, also usable without an acquisition."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mda_writers.errors import UnknownOptionError
from mda_writers.formats.base import FORMATS
from mda_writers.model.names import split_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mda_writers.formats.base import Format
    from mda_writers.writers.base import MDAWriter


_TIFF = ("mda_writers.writers.tiff", "BigTiffWriter")
_ZARR = ("mda_writers.writers.zarr", "OMEZarrWriter")
_VIDEO = ("mda_writers.writers.video", "CV2Writer")

WRITERS = {
    ".ome.tiff": _TIFF,
    ".ome.tif": _TIFF,
    ".tiff": _TIFF,
    ".tif": _TIFF,
    ".ome.zarr": _ZARR,
    ".zarr": _ZARR,
    ".mp4": _VIDEO,
    ".avi": _VIDEO,
    ".mkv": _VIDEO,
}
"""The table of writers: suffix → module and class, imported when asked for.

`convert` and its like, and `Acquisition`, ask it."""


def writer_for(name: Path | str) -> type[MDAWriter]:
    """Return the writer for a file name, or for a suffix.

    Raises
    ------
    ValueError
        If no writer makes such files.
    """
    suffix = _suffix(name)
    if suffix not in WRITERS:
        raise ValueError(
            f"{_name(name)}: unsupported format {suffix or '(no suffix)'}; supported: "
            f"{', '.join(WRITERS)}."
        )
    module, made_by = WRITERS[suffix]
    found: type[MDAWriter] = getattr(import_module(module), made_by)
    return found


def register_format(fmt: type[Format], writer: type[MDAWriter]) -> None:
    """Make a format of your own known, for as long as the program runs.

    `open_dataset`, `verify` and `recover` find it by its name, `convert` and `Acquisition` by the
    suffixes of its writer. Call it in every process that works with such recordings.

    Parameters
    ----------
    fmt : type
        A subclass of `Format`, at the top level of its module.
    writer : type
        A subclass of `MDAWriter`, with ``suffixes`` that no other writer has.

    Raises
    ------
    ValueError
        If the name or a suffix is taken, or cannot be one.
    """
    made_by, written_by = _address(fmt), _address(writer)
    if FORMATS.get(fmt.name, made_by) != made_by:
        raise ValueError(f"there is a format {fmt.name!r} already. Give yours another name.")
    for suffix in writer.suffixes:
        if WRITERS.get(suffix, written_by) != written_by:
            raise ValueError(f"{suffix}: {WRITERS[suffix][1]} writes it. Choose another suffix.")
        if split_suffix(f"x{suffix}")[1] != suffix or suffix != suffix.lower():
            raise ValueError(f"{suffix!r}: a suffix is a dot and lower-case letters, like '.npys'.")
    FORMATS[fmt.name] = made_by
    WRITERS.update(dict.fromkeys(writer.suffixes, written_by))


def _address(of: type) -> tuple[str, str]:
    return of.__module__, of.__qualname__


def _name(name: Path | str) -> str:
    return name if isinstance(name, str) else name.name


def _suffix(name: Path | str) -> str:
    return split_suffix(f"x{_name(name)}")[1].lower()


def is_recording_name(path: Path) -> bool:
    """Whether the name is one that a writer makes."""
    return split_suffix(path.name)[1].lower() in WRITERS


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
