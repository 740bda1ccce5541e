"""What a format is, and the table of all formats."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.storage.block_file import sync_file, sync_tree
from mda_writers.storage.write_pool import WritePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout, Layout, PlaneInfo


Place = tuple[int, ...]

FORMATS = {
    "bigtiff": ("mda_writers.formats.tiff.bigtiff", "BigTiffFormat"),
    "tiff-series": ("mda_writers.formats.tiff.series", "TiffSeriesFormat"),
    "ome-zarr": ("mda_writers.formats.zarr.format", "OmeZarrFormat"),
    "ome-zarr-objects": ("mda_writers.formats.zarr.objects", "OmeZarrObjects"),
    "video": ("mda_writers.formats.video.format", "VideoFormat"),
}
"""The table of formats: ``header["format"]`` → module and class, imported when asked for.

`open_dataset`, `verify` and `recover` ask it; the class is made by ``of_header(header)``."""


class Format(ABC):
    """The files of one recording: how they begin, how they end, and how a frame is read back.

    A format has a `name`, and says `new_array` and `read_frame`; what else is listed here has a
    default, which is right for a format that writes a file per frame.
    """

    name: str  # what the journal's header calls it; its key in FORMATS
    claims_room: bool = True  # whether the space of a known plan is reserved before the first frame
    shrinks: bool = False  # whether pixels take less space than they have bytes
    new_pool: type[Any] = WritePool  # what takes bytes to the disk; one per recording

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> Format:
        """Return the format of a recording that exists, from its journal's header."""
        return cls()

    @cached_property
    def failures(self) -> dict[str, Exception]:
        """Files that could not be brought into their final form, and why."""
        return {}

    @abstractmethod
    def new_array(self, path: Path, image: ImageLayout, layout: Layout, pool: Any) -> Any:
        """Begin the file, or the folder, of one image; return the `FrameArray` for its frames."""

    @abstractmethod
    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of a frame from the image's `path`.

        `ours` is what this package added to the frame's metadata: its ``place``, and what the
        array's ``where`` returned.
        """

    def disk_bytes(self, image: ImageLayout) -> int:
        """Return the bytes that an image takes."""
        return image.nbytes

    def files_of(self, planes: Sequence[PlaneInfo]) -> tuple[str, ...]:
        """Return the files of an image that has these planes; none where the image is one file."""
        return ()

    def final_sizes(self, image: ImageLayout, places: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Return the sizes of what was really taken.

        The slowest axis is cut behind the last frame; where it is of length one, the next. What an
        image that grows has taken is its size.
        """
        indices = np.array(places, int).reshape(len(places), len(image.sizes))
        taken = indices.max(axis=0, initial=-1) + 1
        if image.growing:
            return dict(zip(image.sizes, map(int, taken), strict=True))
        sizes = dict(image.sizes)
        for axis, n in zip(image.sizes, taken, strict=True):
            sizes[axis] = int(n)
            if n > 1:
                break
        return sizes

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> dict[str, Any] | None:
        """Bring the files of all images into their final form, each inside of `unfinished`.

        By default: have them survive a power cut. It may be killed and repeated. What it returns
        is kept in the recording's report file.
        """
        for image in layout.images:
            path = folder / image.file
            with self.unfinished(image.file):
                if path.is_dir():
                    sync_tree(path)
                elif path.exists():
                    sync_file(path)
        return None

    @contextmanager
    def unfinished(self, file: str) -> Iterator[None]:
        """Keep what goes wrong with one file from the others; `finish_files` raises it then."""
        try:
            yield
        except Exception as error:
            self.failures[file] = error

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterable[tuple[str, Sequence[int]]]:
        """Return the files of a finished image that say more than pixels: they get a seal.

        Parameters
        ----------
        folder : Path
            The recording's.
        image : ImageLayout
            The image.
        planes_laid_out : int
            0 where an array of a user's own made the file.
        ends : mapping
            File → where its last frame ends, where frames lie at an offset.

        Returns
        -------
        iterable of (str, sequence of int)
            Each file, relative to the folder, and where in it pixels begin and end.
        """
        return ()

    def discard(self, path: Path) -> None:
        """Remove the file or folder of an image without frames."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps readers from the frames of an image; nothing if all is well."""
        return ""

    def damaged_level(
        self, path: Path, image: ImageLayout, places: Sequence[tuple[int, ...]]
    ) -> str:
        """Return which smaller level differs from what it was made of; nothing if none does.

        May raise whatever a damaged file makes its reader raise.
        """
        return ""


class FrameArray(ABC):
    """An image on disk: frames go in by index, pixels come out by index.

    Frames are taken by one thread only: `expect`, ``array[index] = frame``, `take_landed` and
    `where`, in this order. ``array[index]`` may be called by any, at any time, also after `close`;
    a frame that nobody wrote reads as zeros.

    Attributes
    ----------
    image : ImageLayout
        What it holds. A subclass whose pixels differ from that says sizes, shape and type itself.
    """

    image: ImageLayout

    @property
    def planes(self) -> int:
        """Planes that the file has room for; 0 where it is left as it is at the end."""
        return 0

    @property
    def files(self) -> tuple[str, ...] | None:
        """The names of the files so far; None where they are those of the image."""
        return None

    def expect(self, frame: Frame) -> None:  # noqa: B027 - nothing is a good default
        """Look at the frame that comes next, for what its pixels do not say."""

    @abstractmethod
    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        """Take the frame at `index`; it may still be on its way to the disk on return."""

    def take_landed(self, journalled: int) -> bool:
        """Learn up to which of the pool's numbers frames have their lines in the journal.

        True as long as something waits for that.
        """
        return False

    def where(self, index: tuple[int, ...]) -> Mapping[str, Any]:
        """Return where in its files the frame of `index` is, for the journal."""
        return {}

    def flush(self) -> None:  # noqa: B027 - the same
        """Send everything on its way; return when the system has it."""

    def close(self) -> None:
        """Return when every frame so far is on the disk, and let go of the files."""
        self.flush()

    def __getitem__(self, index: Any) -> np.ndarray:
        sizes = self._sizes_now()
        index = index if isinstance(index, tuple) else (index,)
        leading, within = index[: len(sizes)], index[len(sizes) :]
        chosen = np.asarray(np.arange(prod(sizes)).reshape(sizes)[leading])
        pixels = np.zeros((*chosen.shape, *self._frame_shape), self.dtype)
        places = [
            tuple(map(int, np.unravel_index(number, sizes))) if sizes else ()
            for number in chosen.reshape(-1)
        ]
        self._read(pixels, list(zip(np.ndindex(chosen.shape), places, strict=True)))
        return np.asarray(pixels[(slice(None),) * chosen.ndim + tuple(within)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes; an image that grows tells those so far."""
        return (*self._sizes_now(), *self._frame_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """Pixel type."""
        return np.dtype(self.image.dtype)

    @property
    def _frame_shape(self) -> tuple[int, ...]:
        return tuple(self.image.frame_shape)

    def _sizes_now(self) -> tuple[int, ...]:
        """Return the sizes of the axes before those of a frame."""
        return tuple(self.image.sizes.values())

    def _read(self, pixels: np.ndarray, wanted: list[tuple[Place, Place]]) -> None:
        """Fill in frames: for each its place in `pixels`, and in the image.

        One that did not come stays zero.
        """
        raise NotImplementedError


class ForeignArray(FrameArray):
    """An array of a user's own, which need not have more than ``array[index] = frame``."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._expect = getattr(array, "expect", super().expect)
        self._take_landed = getattr(array, "take_landed", super().take_landed)
        self._where = getattr(array, "where", super().where)
        self._flush = getattr(array, "flush", super().flush)
        self._close = getattr(array, "close", self._flush)

    @property
    def planes(self) -> int:
        """Planes that the file has room for, where the array knows."""
        return int(getattr(self._array, "planes", 0))

    @property
    def files(self) -> tuple[str, ...] | None:
        """The names of the files so far, where the array knows."""
        return getattr(self._array, "files", None)

    def expect(self, frame: Frame) -> None:
        """Look at the frame that comes next."""
        self._expect(frame)

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        self._array[index] = frame

    def take_landed(self, journalled: int) -> bool:
        """Learn what has landed; True as long as something waits for that."""
        return bool(self._take_landed(journalled))

    def where(self, index: tuple[int, ...]) -> Mapping[str, Any]:
        """Return where the frame of `index` is; nothing if the array does not know."""
        where: Mapping[str, Any] = self._where(index)
        return where

    def flush(self) -> None:
        """Flush the array, if that can be done."""
        self._flush()

    def close(self) -> None:
        """Close the array, or flush it if it cannot be closed."""
        self._close()


def format_of(header: Mapping[str, Any]) -> Format:
    """Return the format of the recording that has this header.

    Raises
    ------
    CorruptRecordingError
        If the header names none that this version knows.
    """
    name = header.get("format")
    if name not in FORMATS:
        raise CorruptRecordingError(
            f"{header.get('path', 'The recording')}: its format is {name!r}; this version of "
            f"mda-writers knows {', '.join(FORMATS)}. Update mda-writers."
        )
    module, made_by = FORMATS[name]
    return cast("Format", getattr(import_module(module), made_by).of_header(header))
