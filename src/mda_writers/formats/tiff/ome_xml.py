"""OME-XML, made by hand: the images of a recording, their planes and channels."""

from __future__ import annotations

import re
import uuid
from math import isfinite
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mda_writers.errors import FrameError
from mda_writers.formats.zarr.grid import NGFF_ORDER
from mda_writers.model.layout import PLANES_DESCRIBED, Channel, ImageLayout, Layout

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mda_writers.model.layout import PlaneInfo

    Planes = Sequence[PlaneInfo]

    Value = str | float | None


LINKED_FILES = 100
"""Files up to which each describes all of the set. Beyond, the first one does, and the others
describe themselves: a thousand positions times a thousand descriptions would be a gigabyte."""

_NO_PLANES: Mapping[str, Planes] = {}

# fmt: off
LENGTH_UNITS = (
    "Ym", "Zm", "Em", "Pm", "Tm", "Gm", "Mm", "km", "hm", "dam", "m", "dm", "cm", "mm", "µm", "nm",
    "pm", "fm", "am", "zm", "ym", "Å", "thou", "li", "in", "ft", "yd", "mi", "ua", "ly", "pc", "pt",
    "pixel", "reference frame",
)
"""OME's units of length."""

TIME_UNITS = (
    "Ys", "Zs", "Es", "Ps", "Ts", "Gs", "Ms", "ks", "hs", "das", "s", "ds", "cs", "ms", "µs", "ns",
    "ps", "fs", "as", "zs", "ys", "min", "h", "d",
)
"""OME's units of time."""
# fmt: on

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

# as plain attributes: ElementTree keeps the prefixes of namespaces for the whole process
_ROOT = {
    "xmlns": _NAMESPACE,
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "xsi:schemaLocation": f"{_NAMESPACE} {_NAMESPACE}/ome.xsd",
    "Creator": "mda-writers",
}

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

_STEPS = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}


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


def recording(layout: Layout) -> ET.Element:
    """Return the description of a recording, without its images."""
    instrument = ET.Element("Instrument", ID="Instrument:0")
    for n, label in enumerate(layout.camera_labels):
        instrument.append(element("Detector", {"Model": label or None, "ID": f"Detector:{n}"}))
    if layout.objective:
        instrument.append(_objective(layout))
    root = document()
    root.append(instrument)
    return root


def image_element(layout: Layout, image: ImageLayout, number: int) -> ET.Element:
    """Return the description of an image, which does not say yet where its planes are."""
    made = element("Image", {"ID": f"Image:{number}", "Name": image.name})
    if layout.started:
        ET.SubElement(made, "AcquisitionDate").text = layout.started
    ET.SubElement(made, "InstrumentRef", ID="Instrument:0")
    if layout.objective:
        ET.SubElement(made, "ObjectiveSettings", ID="Objective:0")
    made.append(_stage_label(image))
    made.append(_pixels(layout, image, number))
    return made


def pixels_of(image: ET.Element) -> ET.Element:
    """Return the element that takes blocks and planes."""
    found = image.find("Pixels")
    assert found is not None
    return found


def whole_block(image: ImageLayout) -> ET.Element:
    """Return the block of an image whose IFDs are in the order of its axes."""
    return element("TiffData", {"IFD": 0, "PlaneCount": image.planes})


def blocks(image: ImageLayout, planes: Iterable[PlaneInfo]) -> list[ET.Element]:
    """Return a block for each plane: the frames came in an order that no axes describe."""
    firsts = [f"First{axis.upper()}" for axis in image.sizes]
    return [
        element(
            "TiffData",
            {**dict(zip(firsts, plane.place, strict=True)), "IFD": plane.ifd, "PlaneCount": 1},
        )
        for plane in planes
    ]


def plane_element(image: ImageLayout, plane: PlaneInfo) -> ET.Element:
    """Return what is known of one plane."""
    index = dict(zip(image.sizes, plane.place, strict=True))
    x, y, z = plane.position_um
    return element(
        "Plane",
        {
            **{f"The{axis.upper()}": index.get(axis, 0) for axis in "zct"},
            "DeltaT": plane.delta_t_s,
            "ExposureTime": plane.exposure_s,
            **_in_um("PositionX", x),
            **_in_um("PositionY", y),
            **_in_um("PositionZ", z),
        },
    )


def _objective(layout: Layout) -> ET.Element:
    return element(
        "Objective",
        {
            "Model": layout.objective,
            "ID": "Objective:0",
            "NominalMagnification": layout.magnification,
        },
    )


def _stage_label(image: ImageLayout) -> ET.Element:
    x, y, z = image.position_um or (None, None, None)
    position = {**_in_um("X", x), **_in_um("Y", y), **_in_um("Z", z)}
    return element("StageLabel", {"Name": image.name, **position})


def _in_um(name: str, value: float | None) -> dict[str, float | str]:
    """Return a position with its unit; by default, it is an unnamed reference frame."""
    return {} if value is None else {name: float(value), f"{name}Unit": "µm"}


def _pixels(layout: Layout, image: ImageLayout, number: int) -> ET.Element:
    size, z_step_um = (layout.pixel_size_um, "µm"), layout.z_step_of(image)
    steps = {
        "x": size,
        "y": size,
        "z": (None if z_step_um is None else abs(z_step_um), "µm"),
        "t": (layout.time_interval_of(image), "s"),
    }
    made = pixels(number, image.sizes, image.frame_shape, image.dtype, steps, layout.bit_depth)
    made.extend([_channel(layout, image, number, c) for c in range(image.sizes.get("c", 1))])
    return made


def _channel(layout: Layout, image: ImageLayout, number: int, c: int) -> ET.Element:
    about = image.channels[c] if c < len(image.channels) else Channel("")
    made = channel(number, c, about.name, samples_of(image.frame_shape))
    if about.camera in layout.camera_labels:
        detector = layout.camera_labels.index(about.camera)
        ET.SubElement(made, "DetectorSettings", ID=f"Detector:{detector}")
    return made


# What every description in OME-XML is made of, whoever owns the pixels.
#
# Source: the OME data model 2016-06, https://docs.openmicroscopy.org/ome-model/latest/ . The
# elements are built directly: to import a library that knows the whole model takes half a second,
# and the microscope waits. In the tests ome-types validates all that comes out.


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


def dimension_order(axes: Iterable[str]) -> str:
    """Return OME's DimensionOrder (fastest first) for axes given slowest first."""
    fastest_first = [axis.upper() for axis in axes][::-1]
    return "XY" + "".join(dict.fromkeys([*fastest_first, *"CZT"]))


def document() -> ET.Element:
    """Return a description of nothing; instruments come first in it, then images."""
    return ET.Element("OME", _ROOT)


def to_xml(root: ET.Element) -> str:
    """Return a description as text, which must be written as UTF-8.

    Bio-Formats takes character references (``&#181;``) apart, so that there are none.
    """
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def element(tag: str, attributes: Mapping[str, Value], *children: ET.Element) -> ET.Element:
    """Return an element without those attributes that are unknown: None, or not finite."""
    made = ET.Element(tag)
    for name, value in attributes.items():
        if isinstance(value, str):
            made.set(name, one_line(value))
        elif value is not None and isfinite(value):
            made.set(name, repr(float(value)) if isinstance(value, float) else str(value))
    made.extend(children)
    return made


def pixels(
    number: int,
    sizes: Mapping[str, int],
    frame_shape: Sequence[int],
    dtype: str,
    steps: Mapping[str, tuple[float | None, str]],
    significant_bits: int | None = None,
) -> ET.Element:
    """Return the pixels of one image; channels come first in it, then blocks, then planes.

    Parameters
    ----------
    number : int
        Of the image in its document.
    sizes : mapping
        Axis (t, c, z) → size, slowest first.
    frame_shape : sequence of int
        ``(y, x)``, or ``(y, x, 3)`` for colour.
    dtype : str
        numpy's name of the pixel type.
    steps : mapping
        Axis (x, y, z, t) → size of a pixel, distance of planes or of time points, with its unit.
    significant_bits : int, optional
        As many as the camera has.
    """
    samples = samples_of(frame_shape)
    attributes: dict[str, Value] = {
        "ID": f"Pixels:{number}",
        "DimensionOrder": dimension_order(sizes),
        "Type": pixel_type(dtype),
        "SignificantBits": significant_bits or None,
        "Interleaved": "true" if samples > 1 else "false",
        "BigEndian": "false",
        "SizeX": frame_shape[1],
        "SizeY": frame_shape[0],
        "SizeZ": sizes.get("z", 1),
        "SizeC": sizes.get("c", 1) * samples,
        "SizeT": sizes.get("t", 1),
    }
    for axis, (step, unit) in steps.items():
        if step is not None and step > 0:  # the schema knows no others
            attributes |= {_STEPS[axis]: step, f"{_STEPS[axis]}Unit": unit}
    return element("Pixels", attributes)


def channel(number: int, c: int, name: str, samples: int, *children: ET.Element) -> ET.Element:
    """Return channel `c` of an image."""
    attributes = {
        "ID": f"Channel:{number}:{c}",
        "Name": one_line(name) or None,
        "SamplesPerPixel": samples,
    }
    return element("Channel", attributes, *children)


def samples_of(frame_shape: Sequence[int]) -> int:
    """Return how many values a pixel has."""
    return frame_shape[2] if len(frame_shape) == 3 else 1


def one_line(text: str) -> str:
    """Return `text` as an attribute can hold it.

    Line breaks and tabs become spaces: in attributes they would be character references.
    """
    return allowed(re.sub(r"\s", " ", text))


def allowed(text: str) -> str:
    """Return `text` without the characters that XML 1.0 cannot hold at all."""
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


# The OME-XML of an OME-Zarr with several images: ``OME/METADATA.ome.xml``.
#
# The bioformats2raw layout (https://ngff.openmicroscopy.org/0.5/, "bioformats2raw.layout") asks
# for it: some readers take the number of images and their names from there, not from ``series``.


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
