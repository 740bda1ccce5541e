"""One image of a recording in OME-XML: what it shows, and where each of its planes is."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mda_writers.formats.ome_elements import channel, document, element, pixels, samples_of
from mda_writers.model.layout import Channel, ImageLayout, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mda_writers.model.plane import PlaneInfo


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
