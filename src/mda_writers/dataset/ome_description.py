"""What the OME-XML of a file says about its images: names, sizes, channels, positions.

Source: the OME data model 2016-06, https://docs.openmicroscopy.org/ome-model/latest/ . Read with
the standard library: the files of others hold XML that strict models refuse.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import Channel, ImageLayout, Layout, common_steps
from mda_writers.model.names import stays_inside
from mda_writers.model.report import MISSING_LISTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_UM = {
    None: 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "pm": 1e-6,
    "Å": 1e-4,
}
_S = {None: 1.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}


def own_set(xml: str, path: Path) -> str:
    """Return the XML of the file at `path` without the names of files that are another set's.

    tifffile goes by names alone, and would show the pixels of whatever is called so.

    Raises
    ------
    CorruptRecordingError
        If it names a file that does not lie in its folder.
    """
    root = None
    with suppress(ET.ParseError):
        root = ET.fromstring(xml)
    if root is None:
        return xml
    named = [e for e in root.iter() if _name(e) == "UUID" and not _is_own(e, root, path)]
    foreign = {
        (name, uuid)
        for name, uuid in {(e.get("FileName", ""), e.text) for e in named}
        if _is_foreign(path, name, uuid)
    }
    for element in named:
        if (element.get("FileName", ""), element.text) in foreign:
            element.set("FileName", "")
    return ET.tostring(root, "unicode") if foreign else xml


def _is_own(element: ET.Element, root: ET.Element, path: Path) -> bool:
    """Return whether the file that is opened is meant: it may have been renamed."""
    if root.get("UUID") is not None:
        return element.text == root.get("UUID")
    return element.get("FileName", "").lower() == path.name.lower()


def _is_foreign(path: Path, name: str, uuid: str | None) -> bool:
    import tifffile

    if name and not stays_inside(name):
        raise CorruptRecordingError(
            f"{path}: altered, or made to be read elsewhere. It names the file {name!r}, which "
            f"does not lie in {path.parent}. Nothing there was touched; put the files of a set "
            "into one folder."
        )
    if not name or not (path.parent / name).is_file():
        return False
    with suppress(Exception), tifffile.TiffFile(path.parent / name) as tif:
        found = ET.fromstring(tif.ome_metadata or "").get("UUID")
        return found is not None and found != uuid
    return False  # not OME-TIFF, or damaged: it has no name of its own


def describe_ome(
    xml: str, images: Sequence[ImageLayout], folder: Path
) -> tuple[Layout, list[dict[str, Any]]]:
    """Return the layout of `images` with what their XML says; as they are where it is broken.

    Parameters
    ----------
    xml : str
        The description of a set of files.
    images : sequence of ImageLayout
        Those of its images that have a file here.
    folder : Path
        Where the files are.

    Returns
    -------
    layout : Layout
    lost : list of dict
        The coordinates of all planes of images that have no file here, at most `MISSING_LISTED`.
    """
    root = None
    with suppress(ET.ParseError):
        root = ET.fromstring(xml)
    every = [] if root is None else [e for e in root if _name(e) == "Image"]
    elements = every
    if root is not None and len(every) != len(images):
        elements = [e for e in every if _has_file(e, root.get("UUID"), folder)]
    if len(elements) != len(images):
        return Layout(images=tuple(images)), []
    described = tuple(map(_described, images, elements))
    pixels = _child(elements[0], "Pixels")
    if pixels is None:
        return Layout(images=described), []
    z_step_um, time_interval_s = common_steps(described)
    layout = Layout(
        images=described,
        pixel_size_um=_number(pixels, "PhysicalSizeX", _UM),
        z_step_um=z_step_um,
        time_interval_s=time_interval_s,
    )
    lost = (plane for e in every if e not in elements for plane in _planes(e))
    return layout, list(islice(lost, MISSING_LISTED))


def _planes(image: ET.Element) -> Iterator[dict[str, Any]]:
    """Return the coordinates of all planes of an image; axes of length one are left out."""
    pixels = _child(image, "Pixels")
    if pixels is None:
        return
    channels = [e for e in pixels if _name(e) == "Channel"]
    names = [e.get("Name") or n for n, e in enumerate(channels)]
    sizes = {a: int(_number(pixels, f"Size{a.upper()}", {None: 1.0}) or 1) for a in "tcz"}
    sizes["c"] = len(names) or sizes["c"]
    for place in np.ndindex(*sizes.values()):
        where = {a: n for (a, size), n in zip(sizes.items(), place, strict=True) if size > 1}
        if "c" in where and names:
            where["c"] = names[where["c"]]
        yield {"p": image.get("Name") or image.get("ID") or "", **where}


def _has_file(image: ET.Element, own_uuid: str | None, folder: Path) -> bool:
    """Return whether a file with planes of an image is here: the one that was opened, or another.

    The one that was opened is known by its UUID: it may have been renamed.
    """
    pixels = _child(image, "Pixels")
    blocks = [] if pixels is None else [e for e in pixels if _name(e) == "TiffData"]
    for block in blocks:
        file = _child(block, "UUID")
        if file is None or file.text == own_uuid:
            return True
        name = file.get("FileName")
        if name and (folder / name).exists():
            return True
    return False


def _described(image: ImageLayout, element: ET.Element) -> ImageLayout:
    pixels = _child(element, "Pixels")
    channels = [] if pixels is None else [e for e in pixels if _name(e) == "Channel"]
    named = tuple(Channel(e.get("Name") or "") for e in channels)
    count = image.sizes.get("c", 1)
    return replace(
        image,
        name=element.get("Name") or image.name,
        channels=named if len(named) == count else image.channels,
        position_um=_position(element),
        z_step_um=None if pixels is None else _number(pixels, "PhysicalSizeZ", _UM),
        time_interval_s=None if pixels is None else _number(pixels, "TimeIncrement", _S),
    )


def _position(element: ET.Element) -> tuple[float | None, float | None, float | None] | None:
    """Return the stage's position: of the first plane, or of the label."""
    pixels = _child(element, "Pixels")
    plane = None if pixels is None else _child(pixels, "Plane")
    label = _child(element, "StageLabel")
    for source, prefix in ((plane, "Position"), (label, "")):
        if source is not None and source.get(f"{prefix}X") is not None:
            x, y, z = (_number(source, f"{prefix}{axis}", _UM) for axis in "XYZ")
            return x, y, z
    return None


def _number(element: ET.Element, name: str, units: dict[str | None, float]) -> float | None:
    """Return an attribute in µm or s; None if it is missing, broken, or in another unit."""
    factor = units.get(element.get(f"{name}Unit"))
    try:
        return float(element.get(name, "")) * factor if factor else None
    except ValueError:
        return None


def _child(element: ET.Element, name: str) -> ET.Element | None:
    return next((child for child in element if _name(child) == name), None)


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
