"""The writer of BigTIFF and OME-TIFF files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mda_writers.formats.bigtiff import BigTiffFormat
from mda_writers.writers.mda_writer import MDAWriter

if TYPE_CHECKING:
    import numpy as np


class BigTiffWriter(MDAWriter):
    """Saves a recording as BigTIFF: one file a position, laid out before the first frame.

    ``.ome.tif`` and ``.ome.tiff`` give OME-TIFF, several positions linked as one data set;
    ``.tif`` and ``.tiff`` plain BigTIFF. The common options are those of `MDAWriter`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".ome.tif", ".ome.tiff", ".tif", ".tiff")

    def new_array(self, position_key: str, dtype: np.dtype, sizes: dict[str, int]) -> Any:
        """Lay out the file of one image.

        Parameters
        ----------
        position_key : str
            The image's key.
        dtype : dtype
            Pixel type.
        sizes : dict
            Axis → size, slowest first, with y and x (and s for colour).
        """
        run = self._current_run()
        image = run.locator.image(position_key)
        assert run.pool is not None
        return run.fmt.new_array(run.path.parent / image.file, image, run.layout_now(), run.pool)

    def format(self, set_id: str) -> BigTiffFormat:
        """Return how the files of a recording begin, and get their final form."""
        return BigTiffFormat(set_id, ome=".ome.tif" in self.path.name.lower())
