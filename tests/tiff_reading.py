"""An image of an OME-TIFF as tifffile sees it, with every axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import tifffile


def read_first_series(tif: tifffile.TiffFile) -> tuple[np.ndarray, str]:
    """Return the pixels and axes of the first series, those of length 1 included."""
    series: Any = tif.series
    if callable(series):  # since 2026.5 a series is either squeezed or not
        whole = series(squeeze=False)[0]
        return whole.asarray().reshape(whole.shape), whole.axes
    return series[0].asarray(squeeze=False), series[0].get_axes(squeeze=False)
