"""What every description in OME-XML is made of, whoever owns the pixels.

Source: the OME data model 2016-06, https://docs.openmicroscopy.org/ome-model/latest/ . The
elements are built directly: to import a library that knows the whole model takes half a second,
and the microscope waits. In the tests ome-types validates all that comes out.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mda_writers.errors import FrameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Value = str | float | None

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
