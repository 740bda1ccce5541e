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
    from collections.abc import Collection, Mapping, Sequence

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo

    Planes = Sequence[PlaneInfo]

LINKED_FILES = 100
"""Files up to which each describes all of the set. Beyond, the first one does, and the others
describe themselves: a thousand positions times a thousand descriptions would be a gigabyte."""

_NO_PLANES: Mapping[str, Planes] = {}


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
        # once for all of its files
        self._known: dict[int, tuple[ImageLayout, Planes | None, Planes, str]] = {}

    def for_image(
        self,
        layout: Layout,
        key: str,
        planes: Mapping[str, Planes] = _NO_PLANES,
        unordered: Mapping[str, Planes] = _NO_PLANES,
        compressed: Collection[str] = (),
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
        planes : mapping
            Key → those of an image's planes that were written. Each is described, in every file,
            up to `PLANES_DESCRIBED` in all; beyond, each file describes those of its own image.
        unordered : mapping
            Key → planes, for the images whose IFDs no order of axes describes: each of their
            planes names its own.
        compressed : collection of str
            Keys of the images whose planes are compressed.
        """
        keys = [image.key for image in layout.images]
        own = keys.index(key)
        numbers = [own]
        if len(keys) <= LINKED_FILES or own == 0:
            numbers += [
                number
                for number, image in enumerate(layout.images)
                if number != own and (image.key in compressed or _may_be_linked(image))
            ]
        if sum(map(len, planes.values())) > PLANES_DESCRIBED:
            planes = {key: planes[key]} if len(planes[key]) <= PLANES_DESCRIBED else {}
        root = recording(layout)
        root.set("UUID", self._uuid(key))
        images = [
            self._image(layout, number, unordered.get(keys[number]), planes.get(keys[number], ()))
            for number in numbers
        ]
        return _with_images(to_xml(root), images)

    def _image(self, layout: Layout, number: int, unordered: Planes | None, planes: Planes) -> str:
        """Return the description of an image, made anew only if the image is another one."""
        image = layout.images[number]
        known = self._known.get(number)
        if known is None or not all(
            old is new for old, new in zip(known, (image, unordered, planes), strict=False)
        ):
            text = self._describe(layout, number, unordered, planes)
            known = self._known[number] = (image, unordered, planes, text)
        return known[3]

    def _describe(
        self, layout: Layout, number: int, unordered: Planes | None, planes: Planes
    ) -> str:
        """Describe an image, and say in which file and where in it each plane is."""
        image = layout.images[number]
        made = image_element(layout, image, number)
        for block in [whole_block(image)] if unordered is None else blocks(image, unordered):
            file = ET.SubElement(block, "UUID", FileName=image.file)
            file.text = self._uuid(image.key)
            pixels_of(made).append(block)
        pixels_of(made).extend([plane_element(image, plane) for plane in planes])
        return ET.tostring(made, encoding="unicode")

    def _uuid(self, key: str) -> str:
        return file_uuid(self._set_id, key)


def file_uuid(set_id: uuid.UUID | str, key: str) -> str:
    """Return the UUID of the file of an image of a recording."""
    return f"urn:uuid:{uuid.uuid5(uuid.UUID(str(set_id)), key)}"


def _may_be_linked(image: ImageLayout) -> bool:
    """Return whether no reader takes an uncompressed image from another file than its own.

    tifffile does if its planes lie side by side. Where an image was not known to be one of
    several when its file was laid out, they do; and a single row is always in one piece.
    """
    return image.one_of_several and (image.planes > 1 or image.frame_shape[0] > 1)


def _with_images(xml: str, images: Sequence[str]) -> str:
    head, end, nothing = xml.rpartition("</OME>")
    return "".join([head, *images, end, nothing])


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
