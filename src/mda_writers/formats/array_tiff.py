"""An array that exists already as one OME-TIFF, described by what its owner says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.ome_xml import dimension_order, pixel_type
from mda_writers.formats.tiff_ending import put
from mda_writers.formats.tiff_layout import DATA_OFFSET, lay_out
from mda_writers.model.encode import to_json
from mda_writers.storage.block_file import BlockFile
from mda_writers.storage.failure import explained
from mda_writers.storage.write_pool import WritePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ome_types import model as ome

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
        for number, pixels in planes:
            pool.write(file, DATA_OFFSET + number * described.plane_bytes, pixels)
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
    from ome_types import model as ome

    image = ome.Image(id="Image:0", name=described.name, pixels=_pixels(described))
    model = ome.OME(creator="mda-writers", images=[image])
    if described.metadata:
        values = {str(key): _as_text(value) for key, value in described.metadata.items()}
        pairs = [ome.Map.M(k=key, value=value) for key, value in values.items()]
        note = ome.MapAnnotation(id="Annotation:0", value=ome.Map(ms=pairs))
        model.structured_annotations = ome.StructuredAnnotations(map_annotations=[note])
        image.annotation_refs.append(ome.AnnotationRef(id=note.id))
    return model.to_xml()


def _pixels(described: ArrayDescription) -> ome.Pixels:
    from ome_types import model as ome

    sizes = described.sizes
    samples = described.frame_shape[2] if len(described.frame_shape) == 3 else 1
    channels = [
        ome.Channel(
            id=f"Channel:0:{c}",
            name=described.channels[c] if described.channels else None,
            samples_per_pixel=samples,
        )
        for c in range(sizes.get("c", 1))
    ]
    return ome.Pixels(
        id="Pixels:0",
        dimension_order=dimension_order(sizes),
        type=pixel_type(described.dtype),
        big_endian=False,
        interleaved=samples > 1,
        size_x=described.frame_shape[1],
        size_y=described.frame_shape[0],
        size_z=sizes.get("z", 1),
        size_t=sizes.get("t", 1),
        size_c=sizes.get("c", 1) * samples,
        channels=channels,
        tiff_data_blocks=[ome.TiffData(ifd=0, plane_count=described.planes)],
        **_steps(described.steps),
    )


def _steps(steps: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    names = {axis: f"physical_size_{axis}" for axis in "xyz"} | {"t": "time_increment"}
    values: dict[str, Any] = {}
    for axis, (value, unit) in steps.items():
        values[names[axis]] = value
        values[f"{names[axis]}_unit"] = unit
    return values


def _in_um(step: tuple[float, str] | None) -> float | None:
    if step is None or step[1] not in UM_PER_UNIT:
        return None
    return step[0] * UM_PER_UNIT[step[1]]


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else to_json(value).decode()
    return "".join(c for c in text if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff"))
