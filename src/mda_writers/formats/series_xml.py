"""The OME-XML of an OME-Zarr with several images: ``OME/METADATA.ome.xml``.

The bioformats2raw layout (https://ngff.openmicroscopy.org/0.5/, "bioformats2raw.layout") asks for
it: some readers take the number of images and their names from there, not from ``series``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mda_writers.errors import FrameError
from mda_writers.formats.ome_elements import dimension_order, to_xml
from mda_writers.formats.ome_image import image_element, pixels_of, recording
from mda_writers.formats.zarr_grid import NGFF_ORDER

if TYPE_CHECKING:
    from mda_writers.model.layout import ImageLayout, Layout


def series_xml(layout: Layout) -> bytes | None:
    """Return the description of all images, in their order.

    Returns
    -------
    bytes or None
        UTF-8; None if OME has no name for the type of some pixels, which Zarr can yet hold.
    """
    root = recording(layout)
    try:
        root.extend([_image(layout, image, n) for n, image in enumerate(layout.images)])
    except FrameError:
        return None
    return to_xml(root).encode()


def _image(layout: Layout, image: ImageLayout, number: int) -> ET.Element:
    """Return the description of an image: no file of TIFF holds its pixels, but ordered arrays."""
    made = image_element(layout, image, number)
    pixels = pixels_of(made)
    pixels.set("DimensionOrder", dimension_order(NGFF_ORDER))
    pixels.set("Interleaved", "false")
    ET.SubElement(pixels, "MetadataOnly")
    return made
