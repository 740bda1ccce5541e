"""The OME-XML of an OME-Zarr with several images: ``OME/METADATA.ome.xml``.

The bioformats2raw layout (https://ngff.openmicroscopy.org/0.5/, "bioformats2raw.layout") asks for
it: some readers take the number of images and their names from there, not from ``series``.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mda_writers.errors import FrameError
from mda_writers.formats.ome_xml import OmeXml, dimension_order
from mda_writers.formats.zarr_grid import NGFF_ORDER

if TYPE_CHECKING:
    from mda_writers.model.layout import Layout


def series_xml(layout: Layout) -> bytes | None:
    """Return the description of all images, in their order.

    Returns
    -------
    bytes or None
        UTF-8; None if OME has no name for the type of some pixels, which Zarr can yet hold.
    """
    described = OmeXml(str(uuid.UUID(int=0)))
    try:
        # the first file of a set is the one that describes all of it
        root = ET.fromstring(described.for_image(layout, layout.images[0].key))
    except FrameError:
        return None
    root.attrib.pop("UUID", None)  # that of a TIFF file
    for pixels in root.iterfind("{*}Image/{*}Pixels"):
        _pixels_are_elsewhere(pixels)
    xml: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml


def _pixels_are_elsewhere(pixels: ET.Element) -> None:
    """Say that no file of TIFF holds the pixels, and how the arrays are ordered."""
    for block in pixels.findall("{*}TiffData"):
        block.tag = block.tag.replace("TiffData", "MetadataOnly")
        block.clear()
    pixels.set("DimensionOrder", dimension_order(NGFF_ORDER))
    pixels.set("Interleaved", "false")
