"""Single images as OME-TIFF files of their own: each describes itself, and belongs to no set."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mda_writers.errors import WriteError
from mda_writers.formats.ome_elements import pixel_type
from mda_writers.formats.ome_xml import xml_alone
from mda_writers.formats.tiff_ending import put
from mda_writers.formats.tiff_layout import DATA_OFFSET, TiffLayout, lay_out
from mda_writers.storage.atomic import replace_bytes
from mda_writers.storage.block_file import BLOCK, BlockFile

if TYPE_CHECKING:
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout, Layout


class ImageFiles:
    """Writes and reads files of one plane each.

    Parameters
    ----------
    layout : Layout
        The recording that the images come from.
    preview : bool
        Whether each file gets an 8-bit PNG beside it.
    """

    def __init__(self, layout: Layout, preview: bool = False) -> None:
        self._layout = replace(layout, z_step_um=None, time_interval_s=None)
        self._preview = preview
        # what is around the pixels is the same for all time points, and dear to make
        self._around: dict[tuple[str, int | None, tuple[int, ...], str], TiffLayout] = {}

    def check(self, image: ImageLayout) -> None:
        """Raise FrameError if OME-TIFF cannot hold such pixels."""
        pixel_type(image.dtype)

    def save(self, path: Path, image: ImageLayout, channel: int | None, pixels: np.ndarray) -> None:
        """Write one plane of `image`, beside and renamed.

        Parameters
        ----------
        path : Path
            The file; one that exists is replaced.
        image : ImageLayout
            The image that the plane belongs to.
        channel : int or None
            Which of its channels; None for all of them in one.
        pixels : np.ndarray
            ``(y, x)`` or ``(y, x, 3)``.
        """
        around = self._layout_of(image, channel)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            _write(beside, around, pixels)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):  # what went wrong first is what is raised
                beside.unlink(missing_ok=True)
            raise
        if self._preview:
            _save_preview(path, pixels)

    def load(self, path: Path) -> np.ndarray:
        """Return the pixels of a file that `save` wrote."""
        import tifffile

        return tifffile.imread(path, is_ome=False, key=0)

    def _layout_of(self, image: ImageLayout, channel: int | None) -> TiffLayout:
        known = (image.key, channel, image.frame_shape, image.dtype)
        if known not in self._around:
            plane = replace(
                image,
                sizes={},
                z_step_um=None,
                time_interval_s=None,
                channels=() if channel is None else image.channels[channel : channel + 1],
            )
            layout = replace(self._layout, images=(plane,))
            self._around[known] = lay_out(
                1,
                image.frame_shape,
                image.dtype,
                xml=xml_alone(layout),
                axes={},
                pixel_size_um=layout.pixel_size_um,
            )
        return self._around[known]


def _write(path: Path, around: TiffLayout, pixels: np.ndarray) -> None:
    """Fill a file, round the page cache where the memory of `pixels` allows it."""
    aligned = pixels.ctypes.data % BLOCK == 0 and pixels.nbytes >= BLOCK
    file = BlockFile(path, direct=None if aligned else False)
    try:
        file.write_at(DATA_OFFSET, pixels.reshape(-1).view(np.uint8).data)
        put(file, around)
        file.sync()
    finally:
        file.close()


def _save_preview(path: Path, pixels: np.ndarray) -> None:
    import cv2

    low, high = np.nanmin(pixels), np.nanmax(pixels)
    scale = 255.0 / max(float(high) - float(low), 1e-12)
    shades = np.nan_to_num((pixels.astype(np.float32) - np.float32(low)) * np.float32(scale))
    shades = np.clip(shades, 0, 255).astype(np.uint8)
    ok, png = cv2.imencode(".png", shades[..., ::-1] if shades.ndim == 3 else shades)
    if not ok:
        raise WriteError(f"{path}: OpenCV could not make its PNG preview.")
    replace_bytes(path.with_name(f"{path.name.removesuffix('.ome.tiff')}.png"), png.tobytes())
