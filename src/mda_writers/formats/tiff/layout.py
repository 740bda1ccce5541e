"""A whole BigTIFF laid out before its first frame: everything but the pixels.

tifffile writes the header and the IFDs; they are caught in memory, so that they can be put into
the file in an order in which it is a valid TIFF at every moment.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DATA_OFFSET = 4096
"""Where the pixels begin: a block of its own for the header and the first IFD."""

GAP_BYTES = 4096
"""Behind the first strip of an image that other files link to.

tifffile takes an image whose planes lie side by side as a whole from the file that was opened,
even if it lies in another file of the set; of planes with a gap it asks each where it is.
"""

IMAGE_DESCRIPTION, STRIP_OFFSETS = 270, 273
"""Numbers of tags."""

_PLACEHOLDER = "OME"
_SOFTWARE = "mda-writers"

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 16: 8}
_INTEGERS = {3: "<H", 4: "<I", 16: "<Q"}
_MOST_TAGS = 64


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


@dataclass(frozen=True, slots=True)
class PlanePlaces:
    """Where the planes of an uncompressed file lie.

    Side by side; or, in a file that others link to, with a gap behind the first plane. A plane
    that is alone there has the gap before its last row, which lies where a second plane would
    begin.

    Attributes
    ----------
    frame_shape : tuple of int
        ``(y, x)``, or ``(y, x, 3)``.
    dtype : str
        Pixel type.
    linked : bool
        Whether other files link to this one.
    """

    frame_shape: tuple[int, ...]
    dtype: str
    linked: bool = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of a plane."""
        return prod(self.frame_shape) * np.dtype(self.dtype).itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.frame_bytes // self.frame_shape[0]

    def is_split(self, planes: int) -> bool:
        """Whether the last row lies apart. A single row has nowhere to be split."""
        return self.linked and planes == 1 and self.frame_shape[0] > 1

    def offset(self, slot: int) -> int:
        """Return where a plane begins."""
        gap = GAP_BYTES if self.linked and slot else 0
        return DATA_OFFSET + slot * self.frame_bytes + gap

    def offsets(self, planes: int) -> np.ndarray:
        """Return where each plane begins."""
        found = DATA_OFFSET + np.arange(planes) * self.frame_bytes
        if self.linked:
            found[1:] += GAP_BYTES
        return found

    def end(self, planes: int) -> int:
        """Return where the pixels of so many planes end."""
        if self.is_split(planes):
            return self.offset(1) + self.row_bytes
        return self.offset(planes - 1) + self.frame_bytes if planes else DATA_OFFSET

    def planes_in(self, size: int, split: bool) -> int:
        """Return how many whole planes there can be in a file of `size` bytes."""
        if split:
            return int(size >= self.end(1))
        first = int(size >= DATA_OFFSET + self.frame_bytes)
        return max(first, (size - self.offset(1)) // self.frame_bytes + 1)

    def parts(self, frame: np.ndarray, planes: int) -> list[tuple[int, np.ndarray]]:
        """Return the parts in which the first of `planes` planes lies, with their offsets."""
        if not self.is_split(planes):
            return [(DATA_OFFSET, frame)]
        return [(DATA_OFFSET, frame[:-1]), (self.offset(1), frame[-1:])]


class MappedPlanes:
    """The planes of an uncompressed file by their numbers, through one memory map.

    Parameters
    ----------
    path : Path
        The file.
    places : PlanePlaces
        Where its planes lie.
    planes : int
        As many as are whole.
    split : bool
        Whether the only plane has its last row apart.
    """

    def __init__(self, path: Path, places: PlanePlaces, planes: int, split: bool = False) -> None:
        self.split = split
        self._planes = planes
        raw = np.memmap(path, np.uint8, "r").view(np.ndarray)
        dtype = np.dtype(places.dtype).newbyteorder("<")

        def view(offset: int, count: int) -> np.ndarray:
            some = raw[offset : offset + count * places.frame_bytes]
            return some.view(dtype).reshape(count, *places.frame_shape)

        if split:
            first = raw[DATA_OFFSET : DATA_OFFSET + places.frame_bytes - places.row_bytes]
            last = raw[places.offset(1) : places.offset(1) + places.row_bytes]
            plane = np.concatenate((first, last)).view(dtype)
            self._runs = [plane.reshape(1, *places.frame_shape)]
        elif places.linked and planes > 1:
            self._runs = [view(DATA_OFFSET, 1), view(places.offset(1), planes - 1)]
        else:
            self._runs = [view(DATA_OFFSET, planes)]

    def __len__(self) -> int:
        return self._planes

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return some planes: a view of the map where they lie side by side."""
        if len(self._runs) == 1:
            return _take(self._runs[0], numbers)
        first, others = self._runs
        if numbers.min() > 0:
            return _take(others, numbers - 1)
        if numbers.max() == 0:
            return _take(first, numbers)
        planes = np.empty((len(numbers), *first.shape[1:]), first.dtype)
        planes[numbers == 0] = first
        planes[numbers > 0] = others[numbers[numbers > 0] - 1]
        return planes


def _take(planes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    first = int(numbers[0])
    if np.array_equal(numbers, np.arange(first, first + len(numbers))):
        return planes[first : first + len(numbers)]  # a view instead of a copy
    return np.asarray(planes[numbers])


def lay_out(
    planes: int,
    frame_shape: Sequence[int],
    dtype: str,
    *,
    xml: str | None,
    axes: Mapping[str, int],
    pixel_size_um: float | None = None,
    bigtiff: bool = True,
    linked: bool = False,
    tail_offset: int | None = None,
) -> TiffLayout:
    """Lay out a BigTIFF, or a 32-bit TIFF, of `planes` planes, one IFD each.

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
    linked : bool
        Whether other files link to this one: its planes then have a gap (see `PlanePlaces`).
    tail_offset : int, optional
        Where the IFDs shall lie; by default, directly behind the pixels.
    """
    places = PlanePlaces(tuple(frame_shape), dtype, linked)
    end, split = places.end(planes), places.is_split(planes)
    sparse = _AroundPixels(end, tail_offset)
    shape, description = _shape_and_description(planes, frame_shape, xml, axes)
    tifffile.imwrite(
        cast("io.BufferedRandom", sparse),
        shape=shape,
        dtype=dtype,
        bigtiff=bigtiff,
        byteorder="<",
        # as if all lay behind the gap; the first strip is then put before it
        align=end - planes * places.frame_bytes,
        rowsperstrip=frame_shape[0] - 1 if split else None,
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
    if linked:
        at = FirstIfd(sparse.head)[STRIP_OFFSETS].value_at
        struct.pack_into("<Q" if bigtiff else "<I", sparse.head, at, DATA_OFFSET)
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


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of a first IFD.

    Attributes
    ----------
    entry_at : int
        Where its entry begins.
    count : int
        Number of its values.
    value_at : int
        Where its values begin: in the entry, or elsewhere.
    value : int or None
        The first of its values; None if they are no integers, or lie outside the head.
    """

    entry_at: int
    count: int
    value_at: int
    value: int | None


class FirstIfd(dict[int, Tag]):
    """The tags of the first IFD of a little-endian file, by number; none where there is no IFD.

    Source: TIFF 6.0, and https://www.awaresystems.be/imaging/tiff/bigtiff.html .

    Parameters
    ----------
    head : bytes-like
        The first bytes of the file, which hold the IFD.
    """

    def __init__(self, head: bytes | bytearray) -> None:
        super().__init__()
        self.next_ifd = 0
        self.is_big = bytes(head[:8]) == b"II+\0\x08\0\0\0"
        try:
            if self.is_big:
                self._read(head, struct.unpack_from("<Q", head, 8)[0], "<Q", "<Q")
            elif bytes(head[:4]) == b"II*\0":
                self._read(head, struct.unpack_from("<I", head, 4)[0], "<H", "<I")
        except struct.error:  # cut
            self.clear()

    def _read(self, head: bytes | bytearray, start: int, counter: str, offset: str) -> None:
        (count,) = struct.unpack_from(counter, head, start)
        room = struct.calcsize(offset)
        start += struct.calcsize(counter)
        for at in range(start, start + min(count, _MOST_TAGS) * (4 + 2 * room), 4 + 2 * room):
            tag, kind = struct.unpack_from("<HH", head, at)
            (values,) = struct.unpack_from(offset, head, at + 4)
            value_at = at + 4 + room
            if values * _TYPE_BYTES.get(kind, 1) > room:
                (value_at,) = struct.unpack_from(offset, head, value_at)
            value = None
            if kind in _INTEGERS and value_at + _TYPE_BYTES[kind] <= len(head):
                (value,) = struct.unpack_from(_INTEGERS[kind], head, value_at)
            self[tag] = Tag(at, values, value_at, value)
        (self.next_ifd,) = struct.unpack_from(offset, head, start + count * (4 + 2 * room))


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
    """A file in memory that keeps everything except the pixels, which read as zeros.

    What is written behind the pixels goes to `tail_offset`.
    """

    def __init__(self, pixels_end: int, tail_offset: int | None = None) -> None:
        self.head = bytearray(DATA_OFFSET)
        self.tail = bytearray()
        self.tail_offset = pixels_end if tail_offset is None else tail_offset
        self._pixels_end = pixels_end
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
        if self._position == self._pixels_end:
            self._position = self.tail_offset
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
