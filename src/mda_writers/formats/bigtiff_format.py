"""BigTIFF and OME-TIFF as a format: how the files of a recording begin, end, and are read."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from mda_writers.formats.bigtiff import BigTiffArray, is_linked
from mda_writers.formats.compressed_tiff import (
    CompressedTiffArray,
    compressed_pixels,
    is_compressed,
)
from mda_writers.formats.format import Format
from mda_writers.formats.ome_xml import OmeXml
from mda_writers.formats.tiff_ending import (
    describe,
    end_laid_out,
    file_order,
    final_sizes,
    split_alone,
)
from mda_writers.formats.tiff_layout import DATA_OFFSET, PlanePlaces
from mda_writers.storage.file_system import sync_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo
    from mda_writers.storage.write_pool import WritePool


class BigTiffFormat(Format):
    """The files of one recording as BigTIFF or OME-TIFF: how they begin, and their final form.

    Parameters
    ----------
    set_id : str
        The recording's UUID.
    ome : bool
        Whether the files describe themselves with OME-XML.
    compression : str or None
        How to compress new files; see `CompressedTiffArray`.
    """

    name = "bigtiff"
    final_sizes = staticmethod(final_sizes)

    def __init__(self, set_id: str, ome: bool, compression: str | None = None) -> None:
        self._xml = OmeXml(set_id) if ome else None
        self._compression = compression

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> BigTiffFormat:
        """Return the format of the recording whose journal has this header."""
        return cls(header["set_id"], ome=".ome.tif" in header["path"].lower())

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: WritePool
    ) -> BigTiffArray | CompressedTiffArray:
        """Begin the file of one image of the recording `layout`."""
        if self._compression is not None:
            ome = self._xml is not None
            return CompressedTiffArray(path, image, pool, self._compression, ome)
        return BigTiffArray(path, image, pool, layout, self._xml)

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> None:
        """Bring every file into its final form; arrays of a user's own are left alone."""
        # the journal says it, not the file: that may be damaged. The only plane of a file that
        # others link to is in two pieces and has no offset, either; it is described alike
        compressed = {
            key
            for key, some in planes.items()
            if planes_laid_out.get(key) and some[0].offset_bytes is None
        }
        ends = [
            file_order(image, planes[image.key], image.growing or image.key in compressed)
            for image in layout.images
        ]
        layout = replace(layout, images=tuple(image for image, _, _ in ends))
        found = {image.key: some for image, some, _ in ends}
        unordered = {image.key: some for image, some, in_order in ends if not in_order}
        ours = [end for end in ends if planes_laid_out.get(end[0].key)]
        self._split_alone(folder, layout, [i for i, _, _ in ours if i.key not in compressed])
        for image, some, in_order in ours:
            path, xml = folder / image.file, None
            with self.unfinished(image.file):
                if self._xml is not None:
                    xml = self._xml.for_image(layout, image.key, found, unordered, compressed)
                if image.key not in compressed:
                    count = image.planes if in_order else len(some)
                    end_laid_out(path, image, layout, xml, count, is_linked(image, self._xml))
                elif xml is not None:
                    describe(path, xml)
                sync_file(path)

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """Return the image's file; planes that are compressed lie between its directories."""
        if not planes_laid_out:
            return
        if image.file in ends:
            yield image.file, (DATA_OFFSET, ends[image.file])
        else:
            yield image.file, compressed_pixels(folder / image.file)

    def _split_alone(self, folder: Path, layout: Layout, images: Sequence[ImageLayout]) -> None:
        """Make files fit for links that turned out to have one plane, before any file has them."""
        if self._xml is None:
            return
        for image in images:
            if image.planes == 1 and is_linked(image, self._xml):
                xml = self._xml.for_image(replace(layout, images=(image,)), image.key)
                with self.unfinished(image.file):
                    split_alone(folder / image.file, image, layout, xml)

    def discard(self, path: Path) -> None:
        """Remove a file that no frame came for."""
        path.unlink(missing_ok=True)

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps a reader from finding the planes of a file; nothing if all is well."""
        linked = is_linked(image, self._xml)
        return damage_of(path, PlanePlaces(image.frame_shape, image.dtype, linked))

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of one frame, found the way any reader of TIFF finds them."""
        with tifffile.TiffFile(path) as tif:
            return np.asarray(tif.pages[ours["ifd"]].asarray())


def damage_of(path: Path, places: PlanePlaces) -> str:
    """Return what keeps a reader from finding the planes of a file; nothing if all is well."""
    try:
        if is_compressed(path):
            return ""
        with _complaints() as complaints, tifffile.TiffFile(path) as tif:
            offsets = _plane_offsets(tif)
    except Exception as error:  # whatever a damaged file makes tifffile do
        return f"no readable TIFF ({type(error).__name__}: {error})"
    if complaints:
        return f"its directory is cut or altered ({complaints[0]})"
    if not np.array_equal(offsets, places.offsets(len(offsets))):
        return "its directory is altered: a plane is not where it was written"
    return ""


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs in the block: of a damaged file it reads what it can."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = tifffile.logger()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _plane_offsets(tif: tifffile.TiffFile) -> np.ndarray:
    """Return where the directory of each plane says that its pixels begin."""
    tif.pages.cache = False
    tif.pages.useframes = True
    tif.pages.set_keyframe(0)
    return np.array([page.dataoffsets[0] for page in tif.pages], int)
