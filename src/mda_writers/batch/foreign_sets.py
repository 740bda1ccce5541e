"""OME-TIFF sets from elsewhere: the files beside a file that hold planes of the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from mda_writers.model.names import stays_inside

if TYPE_CHECKING:
    from pathlib import Path

_TIFF = (".tif", ".tiff", ".btf")


def files_of_set(path: Path) -> list[Path]:
    """Return the files that are read when the image at `path` is: that one first.

    They are those that its OME-XML names, as far as they exist in its folder.
    """
    if path.suffix.lower() not in _TIFF:
        return [path]
    others = {path.parent / name for name in _file_names(_ome_xml(path))} - {path}
    return [path, *sorted(other for other in others if other.is_file())]


def _ome_xml(path: Path) -> str:
    """Return what a file says about its images; nothing if it is none that can be read."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            return tif.ome_metadata or ""
    except Exception:  # whatever a damaged header makes of tifffile; opening it will tell
        return ""


def _file_names(xml: str) -> set[str]:
    try:
        elements = ElementTree.fromstring(xml).iter() if xml else ()
    except ElementTree.ParseError:
        return set()
    named = {e.get("FileName", "") for e in elements if e.tag.rpartition("}")[2] == "UUID"}
    return {name for name in named if stays_inside(name)}
