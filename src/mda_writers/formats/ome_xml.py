"""The OME-XML of a set of OME-TIFF files.

Source: the OME data model 2016-06, https://docs.openmicroscopy.org/ome-model/latest/ . The model
is built with ome-types, which validates it; the lists with one entry a plane are appended to
the finished tree, for a model object a plane would take seconds.
"""

from __future__ import annotations

import copy
import re
import uuid
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mda_writers.errors import FrameError
from mda_writers.model.layout import Channel, ImageLayout, Layout
from mda_writers.model.plane import PLANES_DESCRIBED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ome_types import model as ome

    from mda_writers.model.plane import PlaneInfo

LINKED_FILES = 100
"""Files up to which each describes all of the set. Beyond, the first one does, and the others
describe themselves: a thousand positions times a thousand descriptions would be a gigabyte."""

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

_NONE: Mapping[str, Sequence[PlaneInfo]] = {}

_PIXEL_TYPES = {
    "bool": "bit",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "float32": "float",
    "float64": "double",
    "complex64": "complex",
    "complex128": "double-complex",
}


def pixel_type(dtype: str) -> str:
    """Return OME's name of a numpy dtype.

    Raises
    ------
    FrameError
        If OME has none.
    """
    if dtype not in _PIXEL_TYPES:
        raise FrameError(
            f"OME-TIFF cannot hold pixels of type {dtype}; it holds {', '.join(_PIXEL_TYPES)}. "
            "Convert the frames, or record to a plain '.tif'."
        )
    return _PIXEL_TYPES[dtype]


class OmeXml:
    """Describes the images of one recording, so that each file gets the description of the set.

    Parameters
    ----------
    set_id : str
        A UUID of the recording; those of its files are derived from it.
    """

    def __init__(self, set_id: str) -> None:
        # here, and not at the first frame: it takes half a second, in which frames would pile up,
        # and it fails when the interpreter is about to exit and the frames wait to be written
        import ome_types.model  # noqa: F401

        self._set_id = set_id
        # an image's description changes when the image does; a set of hundreds is described
        # once for each of its files
        self._images: dict[tuple[str, int], tuple[ImageLayout, ET.Element]] = {}
        self._about: Layout | None = None
        self._empty = ET.Element(_tag("OME"))
        ET.register_namespace("", _NAMESPACE)

    def for_image(
        self,
        layout: Layout,
        key: str,
        planes: Sequence[PlaneInfo] = (),
        unordered: Mapping[str, Sequence[PlaneInfo]] = _NONE,
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
        own = copy.deepcopy(self._element(layout, keys.index(key), unordered))
        others: list[ET.Element] = []
        if len(keys) <= LINKED_FILES or key == keys[0]:
            others = [self._element(layout, n, unordered) for n, k in enumerate(keys) if k != key]
        if len(planes) <= PLANES_DESCRIBED:
            image = layout.image(key)
            _pixels_of(own).extend(_plane(image, plane) for plane in planes)
        root = copy.deepcopy(self._root(layout))
        root.set("UUID", self._uuid(key))
        root.extend([own, *others])
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")

    def _element(
        self, layout: Layout, number: int, unordered: Mapping[str, Sequence[PlaneInfo]]
    ) -> ET.Element:
        """Return the description of one image, which says where each plane is if it must."""
        element, image = self._image(layout, number), layout.images[number]
        if image.key in unordered:
            element = copy.deepcopy(element)
            planes = unordered[image.key]
            _name_ifds(_pixels_of(element), image, planes, self._uuid(image.key))
        return element

    def _root(self, layout: Layout) -> ET.Element:
        """Return the description without its images."""
        about = replace(layout, images=())
        if self._about != about:
            self._about, self._empty = about, ET.fromstring(_model(layout, []).to_xml())
        return self._empty

    def _image(self, layout: Layout, number: int) -> ET.Element:
        image = layout.images[number]
        known = self._images.get((image.key, number))
        if known is None or not _same(known[0], image):
            self._describe_new(layout)
            known = self._images[image.key, number]
        return known[1]

    def _describe_new(self, layout: Layout) -> None:
        """Describe all images that are new or have changed: one document a call is what costs."""
        new = [
            (number, image)
            for number, image in enumerate(layout.images)
            if not _same(self._images.get((image.key, number), (None,))[0], image)
        ]
        models = [_image(layout, image, n, self._uuid(image.key)) for n, image in new]
        elements = ET.fromstring(_model(layout, models).to_xml()).findall(_tag("Image"))
        for (number, image), element in zip(new, elements, strict=True):
            self._images[image.key, number] = (image, element)

    def _uuid(self, key: str) -> str:
        return f"urn:uuid:{uuid.uuid5(uuid.UUID(self._set_id), key)}"


@cache
def make_ready() -> None:
    """Import ome-types and have it learn its model: half a second, once in a process.

    Called when a writer is made; when a sequence begins, the microscope is waiting.
    """
    image = ImageLayout("p0", "p0", {}, {"t": 1}, (1, 1), "uint8", (Channel("c"),))
    OmeXml(str(uuid.UUID(int=0))).for_image(Layout(images=(image,)), image.key)


def dimension_order(axes: Iterable[str]) -> str:
    """Return OME's DimensionOrder (fastest first) for axes given slowest first."""
    fastest_first = [axis.upper() for axis in axes][::-1]
    return "XY" + "".join(dict.fromkeys([*fastest_first, *"CZT"]))


def _model(layout: Layout, images: list[ome.Image]) -> ome.OME:
    from ome_types import model as ome

    detectors = [
        ome.Detector(id=f"Detector:{n}", model=_text(label) or None)
        for n, label in enumerate(layout.cameras)
    ]
    objectives = [
        ome.Objective(
            id="Objective:0",
            model=_text(layout.objective),
            nominal_magnification=layout.magnification,
        )
        for _ in range(bool(layout.objective))
    ]
    instrument = ome.Instrument(id="Instrument:0", detectors=detectors, objectives=objectives)
    return ome.OME(creator="mda-writers", instruments=[instrument], images=images)


def _image(layout: Layout, image: ImageLayout, number: int, file_uuid: str) -> ome.Image:
    from ome_types import model as ome

    x, y, z = image.position_um or (None, None, None)
    return ome.Image(
        id=f"Image:{number}",
        name=_text(image.name),
        acquisition_date=layout.started or None,
        instrument_ref=ome.InstrumentRef(id="Instrument:0"),
        objective_settings=ome.ObjectiveSettings(id="Objective:0") if layout.objective else None,
        stage_label=ome.StageLabel(
            name=_text(image.name), x=x, y=y, z=z, x_unit="µm", y_unit="µm", z_unit="µm"
        ),
        pixels=_pixels(layout, image, number, file_uuid),
    )


def _pixels(layout: Layout, image: ImageLayout, number: int, file_uuid: str) -> ome.Pixels:
    from ome_types import model as ome

    samples = image.frame_shape[2] if len(image.frame_shape) == 3 else 1
    channels = image.sizes.get("c", 1)
    block = ome.TiffData(
        ifd=0,
        plane_count=image.planes,
        uuid=ome.TiffData.UUID(value=file_uuid, file_name=image.file),
    )
    return ome.Pixels(
        id=f"Pixels:{number}",
        dimension_order=dimension_order(image.sizes),
        type=pixel_type(image.dtype),
        big_endian=False,
        interleaved=samples > 1,
        significant_bits=layout.bit_depth,
        size_x=image.frame_shape[1],
        size_y=image.frame_shape[0],
        size_z=image.sizes.get("z", 1),
        size_t=image.sizes.get("t", 1),
        size_c=channels * samples,
        physical_size_x=layout.pixel_size_um,
        physical_size_y=layout.pixel_size_um,
        physical_size_z=layout.z_step_um,
        time_increment=layout.time_interval_s,
        channels=[_channel(layout, image, number, c, samples) for c in range(channels)],
        tiff_data_blocks=[block],
    )


def _channel(layout: Layout, image: ImageLayout, number: int, c: int, samples: int) -> ome.Channel:
    from ome_types import model as ome

    channel = image.channels[c] if c < len(image.channels) else Channel("")
    settings = None
    if channel.camera in layout.cameras:
        settings = ome.DetectorSettings(id=f"Detector:{layout.cameras.index(channel.camera)}")
    return ome.Channel(
        id=f"Channel:{number}:{c}",
        name=_text(channel.name) or None,
        samples_per_pixel=samples,
        detector_settings=settings,
    )


def _same(known: ImageLayout | None, image: ImageLayout) -> bool:
    """Whether two layouts are equal; the order of the axes counts, which dicts do not compare."""
    return known == image and known is not None and list(known.sizes) == list(image.sizes)


def _pixels_of(image: ET.Element) -> ET.Element:
    pixels = image.find(_tag("Pixels"))
    assert pixels is not None
    return pixels


def _name_ifds(
    pixels: ET.Element, image: ImageLayout, planes: Sequence[PlaneInfo], file_uuid: str
) -> None:
    """Say for every plane which IFD it is: the frames came in an order that no axes describe."""
    for element in pixels.findall(_tag("TiffData")):
        pixels.remove(element)
    for plane in planes:
        block = ET.SubElement(pixels, _tag("TiffData"))
        for axis, i in zip(image.sizes, plane.place, strict=True):
            block.set(f"First{axis.upper()}", str(i))
        block.set("IFD", str(plane.ifd))
        block.set("PlaneCount", "1")
        element = ET.SubElement(block, _tag("UUID"), FileName=image.file)
        element.text = file_uuid


def _plane(image: ImageLayout, plane: PlaneInfo) -> ET.Element:
    index = dict(zip(image.sizes, plane.place, strict=True))
    attributes: dict[str, str] = {f"The{a.upper()}": str(index.get(a, 0)) for a in "zct"}
    values: Mapping[str, float | None] = {
        "DeltaT": plane.delta_t_s,
        "ExposureTime": plane.exposure_s,
        **dict(zip(("PositionX", "PositionY", "PositionZ"), plane.position_um, strict=True)),
    }
    for name, value in values.items():
        if value is None:
            continue
        attributes[name] = repr(float(value))
        if name.startswith("Position"):
            attributes[f"{name}Unit"] = "µm"  # the schema's default is an unnamed reference frame
    return ET.Element(_tag("Plane"), attributes)


def _text(text: str) -> str:
    """Return `text` without the characters that XML 1.0 cannot hold at all.

    Line breaks and tabs become spaces: in attributes they would be character references, which
    Bio-Formats takes apart.
    """
    return "".join(
        c for c in re.sub(r"\s", " ", text) if c >= " " and not "\ud800" <= c <= "\udfff"
    )


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name}"


def alone(xml: str) -> str:
    """Return `xml` for a file that belongs to no set: without a name or UUID of its own.

    Such a file may be renamed, and the text is the same for every one of its kind.
    """
    root = ET.fromstring(xml)
    root.attrib.pop("UUID", None)
    for block in root.iter(_tag("TiffData")):
        for element in block.findall(_tag("UUID")):
            block.remove(element)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")
