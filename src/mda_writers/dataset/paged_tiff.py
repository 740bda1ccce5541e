"""Planes of a TIFF file that do not lie where their number says: found and decoded by tifffile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from mda_writers.errors import CorruptRecordingError

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout


class PagedTiff:
    """Reads pages by number, also of a file that grows; one thread at a time.

    Parameters
    ----------
    path : Path
        The file.
    image : ImageLayout
        What its planes are.
    """

    def __init__(self, path: Path, image: ImageLayout) -> None:
        self._path = path
        self._image = image
        self._lock = threading.Lock()
        self._tif: tifffile.TiffFile | None = None

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return some pages.

        Raises
        ------
        CorruptRecordingError
            If there are not so many, or one cannot be decoded.
        """
        with self._lock:
            try:
                pages = [self._page(int(number)) for number in numbers]
                return pages[0][np.newaxis] if len(pages) == 1 else np.stack(pages)
            except CorruptRecordingError:
                raise
            except Exception as error:  # whatever a damaged file makes of tifffile
                raise self._corrupt(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._tif is not None:
                self._tif.close()
                self._tif = None

    def _page(self, number: int) -> np.ndarray:
        tif = self._open(number)
        page = tif.pages[number]
        end = max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if end > self._path.stat().st_size:
            raise self._corrupt(f"plane {number} should end at byte {end}")
        plane = np.asarray(page.asarray())
        if plane.shape != self._image.frame_shape or plane.dtype != self._image.dtype:
            raise self._corrupt(f"plane {number} is of {plane.shape} {plane.dtype}")
        return plane

    def _open(self, number: int) -> tifffile.TiffFile:
        """Return the open file; opened anew when it has grown since."""
        if self._tif is not None and number < len(self._tif.pages):
            return self._tif
        if self._tif is not None:
            self._tif.close()
        self._tif = tifffile.TiffFile(self._path)
        self._tif.pages.useframes = True  # all are as the first is, but for their place
        if number >= len(self._tif.pages):
            raise self._corrupt(f"plane {number} is said to be on disk, and is not in it")
        return self._tif

    def _corrupt(self, what: str) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self._path}: cut off or altered ({what}). Copy the file again if this is a copy; "
            "`mda-writers verify` names every frame that is damaged."
        )
