"""An array that exists already as one OME-TIFF, described by what its owner says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from mda_writers.formats.ome_elements import (
    allowed,
    channel,
    document,
    element,
    pixels,
    samples_of,
    to_xml,
)
from mda_writers.formats.tiff_ending import put
from mda_writers.formats.tiff_layout import DATA_OFFSET, lay_out
from mda_writers.model.encode import to_json
from mda_writers.storage.block_file import BlockFile
from mda_writers.storage.failure import explained
from mda_writers.storage.write_pool import WritePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_NOTE = "Annotation:0"

UM_PER_UNIT = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4}


@dataclass(frozen=True, slots=True)
class ArrayDescription:
    """What an array holds.

    Attributes
    ----------
    name : str
        What readers show as the image's name.
    sizes : dict
        Axis (t, c, z) → size, slowest first.
    frame_shape : tuple of int
        ``(y, x)``, or ``(y, x, 3)`` for colour.
    dtype : str
        numpy's name of the pixel type.
    channels : tuple of str
        Names along c; empty where there are none.
    steps : dict
        Axis (x, y, z, t) → size of a pixel, distance of planes or of time points, with its unit.
    metadata : mapping
        Whatever else is known; goes in as key-value pairs.
    """

    name: str
    sizes: dict[str, int]
    frame_shape: tuple[int, ...]
    dtype: str
    channels: tuple[str, ...] = ()
    steps: dict[str, tuple[float, str]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def planes(self) -> int:
        """Number of planes."""
        return prod(self.sizes.values())

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane."""
        return prod(self.frame_shape) * np.dtype(self.dtype).itemsize


def write_tiff(
    path: Path, described: ArrayDescription, planes: Iterable[tuple[int, np.ndarray]]
) -> None:
    """Write a BigTIFF with OME-XML; on return it is on the disk.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    described : ArrayDescription
        What it will hold.
    planes : iterable of (int, np.ndarray)
        Each plane with its number in the order of ``described.sizes``; in any order.

    Raises
    ------
    DiskFullError
        If it does not fit; before the first plane, where the file system can tell.
    """
    around = lay_out(
        described.planes,
        described.frame_shape,
        described.dtype,
        xml=ome_xml(described),
        axes=described.sizes,
        pixel_size_um=_in_um(described.steps.get("x")),
    )
    file, pool = BlockFile(path), WritePool()
    try:
        file.claim(0, around.tail_offset + len(around.tail))
        for number, plane in planes:
            pool.write(file, DATA_OFFSET + number * described.plane_bytes, plane)
        pool.drain()
        put(file, around)
        file.sync()
    except OSError as error:
        raise explained(error, path, described.planes * described.plane_bytes) from error
    finally:
        pool.close()
        file.close()


def ome_xml(described: ArrayDescription) -> str:
    """Return the OME-XML of a file that holds the array and nothing else."""
    image = element("Image", {"ID": "Image:0", "Name": described.name}, _pixels(described))
    root = document()
    root.append(image)
    if described.metadata:
        ET.SubElement(image, "AnnotationRef", ID=_NOTE)
        root.append(_annotations(described.metadata))
    return to_xml(root)


def _pixels(described: ArrayDescription) -> ET.Element:
    sizes, shape = described.sizes, described.frame_shape
    made = pixels(0, sizes, shape, described.dtype, described.steps)
    names = described.channels or ("",) * sizes.get("c", 1)
    made.extend([channel(0, c, name, samples_of(shape)) for c, name in enumerate(names)])
    made.append(element("TiffData", {"IFD": 0, "PlaneCount": described.planes}))
    return made


def _annotations(metadata: Mapping[str, Any]) -> ET.Element:
    pairs = ET.Element("Value")
    for key, value in metadata.items():
        pair = element("M", {"K": str(key)})
        pair.text = _as_text(value)
        pairs.append(pair)
    return element("StructuredAnnotations", {}, element("MapAnnotation", {"ID": _NOTE}, pairs))


def _in_um(step: tuple[float, str] | None) -> float | None:
    if step is None or step[1] not in UM_PER_UNIT:
        return None
    return step[0] * UM_PER_UNIT[step[1]]


def _as_text(value: Any) -> str:
    return allowed(value if isinstance(value, str) else to_json(value).decode())
