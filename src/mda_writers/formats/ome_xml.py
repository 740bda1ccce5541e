"""The OME-XML of OME-TIFF files: of those that are a set, and of those that stand alone."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mda_writers.formats.ome_elements import to_xml
from mda_writers.formats.ome_image import (
    blocks,
    image_element,
    pixels_of,
    plane_element,
    recording,
    whole_block,
)
from mda_writers.model.plane import PLANES_DESCRIBED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo

    Planes = Sequence[PlaneInfo]

LINKED_FILES = 100
"""Files up to which each describes all of the set. Beyond, the first one does, and the others
describe themselves: a thousand positions times a thousand descriptions would be a gigabyte."""

_NONE: Mapping[str, Planes] = {}


class OmeXml:
    """Describes the images of one recording, so that each file gets the description of the set.

    Parameters
    ----------
    set_id : str
        A UUID of the recording; those of its files are derived from it.
    """

    def __init__(self, set_id: str) -> None:
        self._set_id = uuid.UUID(set_id)
        # number of the image → what it was, and its description: a set of a hundred is described
        # once for each of its files
        self._known: dict[int, tuple[ImageLayout, Planes | None, ET.Element]] = {}

    def for_image(
        self,
        layout: Layout,
        key: str,
        planes: Planes = (),
        unordered: Mapping[str, Planes] = _NONE,
    ) -> str:
        """Return the XML for the file of one image, which comes first in it.

        Readers that know nothing of sets show the first image of a file; it should be the one
        whose name the file has.

        Parameters
        ----------
        layout : Layout
            The recording, with all of its images.
        key : str
            The image's key.
        planes : sequence of PlaneInfo
            Those of its planes that were written.
        unordered : mapping
            Key → planes, for the images whose IFDs no order of axes describes: each of their
            planes names its own.
        """
        keys = [image.key for image in layout.images]
        number = keys.index(key)
        own = self._describe(layout, number, unordered.get(key))
        if len(planes) <= PLANES_DESCRIBED:
            image = layout.images[number]
            pixels_of(own).extend([plane_element(image, plane) for plane in planes])
        root = recording(layout)
        root.set("UUID", self._uuid(key))
        root.append(own)
        if len(keys) <= LINKED_FILES or number == 0:
            others = [(n, k) for n, k in enumerate(keys) if k != key]
            root.extend([self._image(layout, n, unordered.get(k)) for n, k in others])
        return to_xml(root)

    def _image(self, layout: Layout, number: int, unordered: Planes | None) -> ET.Element:
        """Return the description of an image, made anew only if the image is another one."""
        image = layout.images[number]
        known = self._known.get(number)
        if known is None or known[0] is not image or known[1] is not unordered:
            known = (image, unordered, self._describe(layout, number, unordered))
            self._known[number] = known
        return known[2]

    def _describe(self, layout: Layout, number: int, unordered: Planes | None) -> ET.Element:
        """Describe an image, and say in which file and where in it each plane is."""
        image = layout.images[number]
        made = image_element(layout, image, number)
        for block in [whole_block(image)] if unordered is None else blocks(image, unordered):
            file = ET.SubElement(block, "UUID", FileName=image.file)
            file.text = self._uuid(image.key)
            pixels_of(made).append(block)
        return made

    def _uuid(self, key: str) -> str:
        return f"urn:uuid:{uuid.uuid5(self._set_id, key)}"


def xml_alone(layout: Layout) -> str:
    """Return the XML for a file of one image that belongs to no set: without a name or UUID.

    Such a file may be renamed, and the text is the same for every one of its kind.
    """
    (image,) = layout.images
    made = image_element(layout, image, 0)
    pixels_of(made).append(whole_block(image))
    root = recording(layout)
    root.append(made)
    return to_xml(root)
