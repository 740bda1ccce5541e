"""The writer of BigTIFF and OME-TIFF files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mda_writers.formats.bigtiff_format import BigTiffFormat
from mda_writers.formats.compressed_tiff import check_codec
from mda_writers.writers.mda_writer import MDAWriter

if TYPE_CHECKING:
    from pathlib import Path


class BigTiffWriter(MDAWriter):
    """Saves a recording as BigTIFF: one file a position, laid out before the first frame.

    ``.ome.tif`` and ``.ome.tiff`` give OME-TIFF, several positions linked as one data set;
    ``.tif`` and ``.tiff`` plain BigTIFF. The common options are those of `MDAWriter`.

    Parameters
    ----------
    filename : path-like
        The file; several positions are written to ``name_<position>.ome.tiff``.
    compression : str, optional
        ``"zlib"``, or with the package imagecodecs ``"zstd"``, ``"lzw"``, ``"lzma"``,
        ``"packbits"``. Planes are then compressed on the writing thread and appended as they
        come, which is far slower than the disk; by default pixels are not compressed.
    **options
        Those of `MDAWriter`.

    Raises
    ------
    ValueError
        If that compression does not work here.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".ome.tif", ".ome.tiff", ".tif", ".tiff")

    def __init__(
        self, filename: str | Path, *, compression: str | None = None, **options: Any
    ) -> None:
        if compression is not None:
            check_codec(compression)
        self._compression = compression
        super().__init__(filename, **options)

    def format(self, set_id: str) -> BigTiffFormat:
        """Return how the files of a recording begin, and get their final form."""
        return BigTiffFormat(set_id, ome=self._is_ome(), compression=self._compression)

    def _is_ome(self) -> bool:
        return ".ome.tif" in self.path.name.lower()


CustomWriter = BigTiffWriter
"""The name under which scripts written for mesofield know it."""
