"""A whole BigTIFF laid out before its first frame: everything but the pixels.

tifffile writes the header and the IFDs; they are caught in memory, so that they can be put into
the file in an order in which it is a valid TIFF at every moment.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATA_OFFSET = 4096
"""Where the pixels begin: a block of its own for the header and the first IFD."""

_PLACEHOLDER = "OME"
_SOFTWARE = "mda-writers"


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """The bytes around the pixels.

    Attributes
    ----------
    head : bytes-like
        The first `DATA_OFFSET` bytes. Writing them switches the file to this layout.
    tail : bytes-like
        The other IFDs and the description, for `tail_offset` on.
    tail_offset : int
        Where the pixels end.
    """

    head: bytes | bytearray
    tail: bytes | bytearray
    tail_offset: int


def lay_out(
    planes: int,
    frame_shape: Sequence[int],
    dtype: str,
    *,
    xml: str | None,
    axes: Mapping[str, int],
    pixel_size_um: float | None = None,
    bigtiff: bool = True,
) -> TiffLayout:
    """Lay out a BigTIFF, or a 32-bit TIFF, of `planes` contiguous planes, one IFD each.

    Parameters
    ----------
    planes : int
        Number of planes, at least 1.
    frame_shape : sequence of int
        ``(y, x)``, or ``(y, x, 3)``.
    dtype : str
        Pixel type.
    xml : str or None
        The OME-XML of an OME-TIFF; None for a plain BigTIFF, which gets tifffile's own
        description of its shape.
    axes : mapping
        The axes before y and x with their sizes, for a plain BigTIFF.
    pixel_size_um : float, optional
        Goes into the resolution tags.
    bigtiff : bool
        Whether offsets have 64 bits.
    """
    nbytes = planes * prod(frame_shape) * np.dtype(dtype).itemsize
    sparse = _AroundPixels(DATA_OFFSET + nbytes)
    shape, description = _shape_and_description(planes, frame_shape, xml, axes)
    tifffile.imwrite(
        cast("io.BufferedRandom", sparse),
        shape=shape,
        dtype=dtype,
        bigtiff=bigtiff,
        byteorder="<",
        align=DATA_OFFSET,
        photometric="rgb" if len(frame_shape) == 3 else "minisblack",
        software=_SOFTWARE,
        resolution=(1e4 / pixel_size_um,) * 2 if pixel_size_um else None,
        resolutionunit="CENTIMETER" if pixel_size_um else None,
        **description,
    )
    if xml is not None:
        sparse.seek(0)
        with tifffile.TiffFile(cast("io.BufferedRandom", sparse)) as tif:
            tif.pages.first.tags["ImageDescription"].overwrite(xml_bytes(xml))
    return TiffLayout(sparse.head, sparse.tail, sparse.tail_offset)


def lay_out_imagej(
    planes: int,
    frame_shape: Sequence[int],
    dtype: str,
    *,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
) -> TiffLayout:
    """Lay out a 32-bit TIFF that ImageJ opens as a hyperstack of `planes` along z.

    Raises
    ------
    ValueError
        If ImageJ knows no such pixels.
    """
    nbytes = planes * prod(frame_shape) * np.dtype(dtype).itemsize
    sparse = _AroundPixels(DATA_OFFSET + nbytes)
    scale = {"unit": "um"} if pixel_size_um or z_step_um else {}
    spacing = {"spacing": abs(z_step_um)} if z_step_um else {}
    tifffile.imwrite(
        cast("io.BufferedRandom", sparse),
        shape=(planes, *frame_shape),
        dtype=dtype,
        imagej=True,
        byteorder="<",
        align=DATA_OFFSET,
        photometric="rgb" if len(frame_shape) == 3 else "minisblack",
        software=_SOFTWARE,
        # ImageJ takes the resolution in its own unit, whatever the tag for the unit says
        resolution=(1 / pixel_size_um,) * 2 if pixel_size_um else None,
        metadata={"axes": "ZYXS"[: 1 + len(frame_shape)], **scale, **spacing},
    )
    return TiffLayout(sparse.head, sparse.tail, sparse.tail_offset)


def xml_bytes(xml: str) -> bytes:
    """Return `xml` as it goes into a TIFF: UTF-8, as OME-TIFF has it.

    Not with character references for what is no ASCII: Bio-Formats takes them apart.
    """
    return xml.encode("utf-8")


def _shape_and_description(
    planes: int, frame_shape: Sequence[int], xml: str | None, axes: Mapping[str, int]
) -> tuple[tuple[int, ...], dict[str, Any]]:
    if xml is not None:
        return (planes, *frame_shape), {"description": _PLACEHOLDER, "metadata": None}
    names = "".join(axes).upper() + "YX" + "S" * (len(frame_shape) == 3)
    if prod(axes.values()) != planes:  # frames in order of arrival
        axes, names = {"q": planes}, "Q" + names[len(axes) :]
    return (*axes.values(), *frame_shape), {"metadata": {"axes": names}}


class _AroundPixels(io.RawIOBase):
    """A file in memory that keeps everything except the pixels, which read as zeros."""

    def __init__(self, tail_offset: int) -> None:
        self.head = bytearray(DATA_OFFSET)
        self.tail = bytearray()
        self.tail_offset = tail_offset
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self.tail_offset + len(self.tail))[whence]
        self._position = base + offset
        return self._position

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        data = bytes(data)
        if self._position < DATA_OFFSET:
            self.head[self._position : self._position + len(data)] = data
        elif self._position >= self.tail_offset:
            start = self._position - self.tail_offset
            self.tail.extend(bytes(max(0, start - len(self.tail))))
            self.tail[start : start + len(data)] = data
        self._position += len(data)
        return len(data)

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        view = memoryview(buffer).cast("B")
        chunk = self._read_at(self._position, len(view))
        view[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def _read_at(self, position: int, count: int) -> bytes:
        if position < DATA_OFFSET:
            return bytes(self.head[position : position + count])
        if position < self.tail_offset:
            return bytes(min(count, self.tail_offset - position))
        start = position - self.tail_offset
        return bytes(self.tail[start : start + count])
