"""Compressed BigTIFF: planes of unknown length, one behind the other as they come.

tifffile compresses each plane and makes its IFD, and links it first; here what is linked is put
into the file last, so that it is a valid TIFF at every moment.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tifffile

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.base import FrameArray
from mda_writers.storage.block_file import BlockFile

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from mda_writers.formats.base import Place
    from mda_writers.model.layout import ImageLayout
    from mda_writers.storage.write_pool import WritePool

CODECS = ("zlib", "zstd", "lzw", "lzma", "packbits")
"""What `compression` may be: all lossless. All but zlib need the package imagecodecs."""


def check_codec(compression: str) -> None:
    """Try a codec out, so that it cannot fail at the first frame.

    Raises
    ------
    ValueError
        If there is none of that name here.
    """
    works = [codec for codec in CODECS if _works(codec)]
    if compression not in works:
        raise ValueError(
            f"compression={compression!r} is not available here; available: {', '.join(works)}. "
            f"There are {', '.join(CODECS)}; all but zlib need `pip install imagecodecs`."
        )


def is_compressed(path: Path) -> bool:
    """Return whether the planes of a TIFF are compressed."""
    try:
        with tifffile.TiffFile(path) as tif:
            return tif.pages.first.compression != 1
    except (OSError, tifffile.TiffFileError):
        return False


def compressed_pixels(path: Path) -> list[int]:
    """Return where in a BigTIFF pixels begin and end, begin and end, …, in ascending order.

    tifffile would make an object of every tag of 100 000 pages.

    Raises
    ------
    CorruptRecordingError
        If its directories are cut or altered.
    """
    bounds: list[int] = []
    with path.open("rb") as stream:
        stream.seek(8)
        following = _number(stream)
        while following:
            if bounds and following < bounds[-1]:
                raise CorruptRecordingError(f"{path}: its directories are altered.")
            stream.seek(following)
            table = np.frombuffer(stream.read(20 * _number(stream)), _ENTRY)
            following = _number(stream)
            begins, sizes = (_values(stream, table[table["tag"] == tag]) for tag in _STRIPS)
            # the strips of a plane lie side by side
            bounds += (int(begins.min()), int((begins + sizes).max()))
    return bounds


_ENTRY = np.dtype([("tag", "<u2"), ("type", "<u2"), ("count", "<u8"), ("value", "<u8")])
_STRIPS = (273, 279)
"""Tags that say where strips begin, and how long they are."""

_TYPES = {3: "<u2", 4: "<u4", 16: "<u8"}


def _number(stream: BinaryIO) -> int:
    return int.from_bytes(stream.read(8), "little")


def _values(stream: BinaryIO, entry: np.ndarray) -> np.ndarray:
    """Return the numbers of a tag: in its entry if they fit, else where that says."""
    dtype, count = np.dtype(_TYPES[int(entry["type"][0])]), int(entry["count"][0])
    content = entry["value"].tobytes()
    if count * dtype.itemsize > len(content):
        stream.seek(int(entry["value"][0]))
        content = stream.read(count * dtype.itemsize)
    return np.frombuffer(content, dtype, count).astype(np.int64)


class CompressedTiffArray(FrameArray):
    """One image as a compressed BigTIFF; ``array[index] = frame``.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    image : ImageLayout
        What it will hold.
    pool : WritePool
        Learns what was written, for recordings that survive a power cut.
    compression : str
        One of `CODECS`.
    ome : bool
        Whether to leave a place for the OME-XML, which comes at the end.
    """

    planes = 1
    """The file is begun, and has its final form to get."""

    def __init__(
        self, path: Path, image: ImageLayout, pool: WritePool, compression: str, ome: bool
    ) -> None:
        self.path = path
        self.image = image
        self._pool = pool
        self._compression = compression
        self._ome = ome
        self._slots: dict[tuple[int, ...], int] = {}
        self._file = BlockFile(path, direct=False)
        self._pages = _Pages()
        self._writer = tifffile.TiffWriter(
            cast("io.BufferedRandom", self._pages), bigtiff=True, byteorder="<"
        )
        try:
            self._pages.put(self._file)
        except BaseException:
            self._file.close()
            raise

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        self._writer.write(
            frame,
            photometric="rgb" if frame.ndim == 3 else "minisblack",
            compression=self._compression,
            contiguous=False,
            metadata=None,
            description="OME" if self._ome and not self._slots else None,
            software="mda-writers",
        )
        self._pages.put(self._file)
        self._pool.wrote(self._file)
        self._slots[tuple(index)] = len(self._slots)

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return where the frame of `index` lies in the file."""
        return {"file": self.path.name, "ifd": self._slots[tuple(index)]}

    def flush(self) -> None:
        """Nothing is held back: every plane is written as it comes."""

    def close(self) -> None:
        """Return when every frame so far is on the disk, and let go of the file."""
        self._writer.close()
        try:
            self._file.sync()
        finally:
            self._file.close()

    def _sizes_now(self) -> tuple[int, ...]:
        if not self.image.growing:
            return super()._sizes_now()
        taken = [max(along) + 1 for along in zip(*list(self._slots), strict=True)]
        return tuple(taken) or (0,) * len(self.image.sizes)

    def _read(self, pixels: np.ndarray, wanted: list[tuple[Place, Place]]) -> None:
        there = [(target, self._slots[place]) for target, place in wanted if place in self._slots]
        if there:
            with tifffile.TiffFile(self.path) as tif:
                for target, slot in there:
                    pixels[target] = tif.pages[slot].asarray()


class _Pages(io.RawIOBase):
    """A file that keeps what tifffile writes until `put` puts it into the real one, links last."""

    def __init__(self) -> None:
        self._begin = 0
        self._new = bytearray()
        self._links: dict[int, bytes] = {}
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
        self._position = (0, self._position, self._begin + len(self._new))[whence] + offset
        return self._position

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        data = bytes(data)
        start = self._position - self._begin
        if start < 0:
            self._links[self._position] = data
        else:
            self._new.extend(bytes(max(0, start - len(self._new))))
            self._new[start : start + len(data)] = data
        self._position += len(data)
        return len(data)

    def put(self, file: BlockFile) -> None:
        """Put what was written since into `file`: what is new, then what leads to it."""
        if self._new:
            file.write_at(self._begin, memoryview(bytes(self._new)))
        for offset, link in self._links.items():
            file.patch(offset, link)
        self._begin += len(self._new)
        self._new.clear()
        self._links.clear()


def _works(codec: str) -> bool:
    try:
        tifffile.imwrite(io.BytesIO(), np.zeros((2, 2), np.uint8), compression=codec)
    except (ValueError, ImportError, KeyError, TypeError, RuntimeError):
        return False
    return True
