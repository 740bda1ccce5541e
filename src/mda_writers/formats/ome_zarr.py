"""OME-Zarr: the images of one recording in one folder, how they begin, and their final form.

A recording of one image is that image: its levels lie in the folder itself. Several images are
numbered (bioformats2raw layout), those of a well plate lie by row, column and field.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.format import Format
from mda_writers.formats.levels_pool import LevelsPool
from mda_writers.formats.ngff import ZARR_FORMAT, image_attributes
from mda_writers.formats.ngff_channels import Window, channel_labels, contrast_window
from mda_writers.formats.ngff_folders import (
    plate_attributes,
    series_attributes,
    series_root,
    well_attributes,
    wells_of,
)
from mda_writers.formats.open_slabs import OpenSlabs
from mda_writers.formats.pyramid import z_steps
from mda_writers.formats.series_xml import series_xml
from mda_writers.formats.taken_planes import TakenPlanes
from mda_writers.formats.tiff_ending import final_sizes
from mda_writers.formats.zarr_final import damage, finish_levels, levels_of
from mda_writers.formats.zarr_frames import open_level, read_frame
from mda_writers.formats.zarr_image import ZarrImage
from mda_writers.formats.zarr_options import ZarrOptions
from mda_writers.formats.zarr_smaller import complete_levels, level_unlike_above
from mda_writers.formats.zarr_store import is_group, write_file, write_group
from mda_writers.formats.zarr_stored import stored_level
from mda_writers.storage.file_system import sync_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.zarr_stored import StoredLevel
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo


class OmeZarrFormat(Format):
    """The files of one recording as OME-Zarr.

    Parameters
    ----------
    options : ZarrOptions
        How images are stored.
    """

    name = "ome-zarr"
    new_pool = LevelsPool
    final_sizes = staticmethod(final_sizes)
    image_class: type[ZarrImage] = ZarrImage

    def __init__(self, options: ZarrOptions) -> None:
        self._options = options
        self._version = options.version
        self._zarr = ZARR_FORMAT[options.version]
        self._described: tuple[str, ...] = ()
        self._slabs = OpenSlabs()
        # whether the room for the pixels is reserved before the first frame
        self.claims_room = options.version == "0.5" and options.compression is None
        # whether the pixels take less room than the plan says, nobody knows how much
        self.shrinks = options.compression is not None

    def disk_bytes(self, image: ImageLayout) -> int:
        """Return the bytes that an image takes with all of its levels."""
        pixels = [prod(shape) for shape in self._options.level_shapes(image)]
        return image.nbytes * sum(pixels) // pixels[0]

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> OmeZarrFormat:
        """Return the format of the recording whose journal has this header."""
        return cls(ZarrOptions.of_header(header))

    def new_array(
        self, path: Path, image: ImageLayout, layout: Layout, pool: LevelsPool
    ) -> ZarrImage:
        """Lay out one image of the recording `layout`."""
        for _ in image.file.split("/"):
            path = path.parent
        folder = self._root_of(path)
        files = tuple(each.file for each in layout.images)
        if files != self._described or not is_group(folder / image.file.split("/")[0], self._zarr):
            for file in self._describe_folders(folder, layout, safely=pool.durable):
                pool.note(file)
            self._described = files
        group = folder / image.file
        return self.image_class(group, image, layout, pool, self._options, self._slabs)

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> None:
        """Bring every image into its final form; arrays of a user's own are left alone."""
        folder = self._root_of(folder)
        ours = [image for image in layout.images if planes_laid_out.get(image.key)]
        windows: dict[str, Window] = {}
        for image in ours:
            with self.unfinished(image.file):
                taken = TakenPlanes.of(image, [plane.place for plane in planes[image.key]])
                windows = self._finish_image(folder / image.file, layout, image, taken, windows)
        self._describe_folders(folder, layout, safely=True)
        self._describe_series(folder, layout)
        self._sync(folder, layout)

    def _finish_image(
        self,
        group: Any,
        layout: Layout,
        image: ImageLayout,
        taken: TakenPlanes,
        windows: dict[str, Window],
    ) -> dict[str, Window]:
        """Bring an image into its final form; return what to show of each channel so far."""
        levels = self._levels_of(group)
        steps = z_steps(image.sizes.get("z", 1), self._options.z_factor, len(levels))
        if self._options.z_factor > 1 and "z" in image.sizes:
            complete_levels([group / name for name in levels], image, taken, self._options)
        self._finish_levels(group, image, taken)
        smallest = taken.at_level(len(levels) - 1, self._options.z_factor)
        stored = stored_level(group / levels[-1], image.dtype, self._options)
        windows = _windows(stored, image, smallest) | windows
        attributes = image_attributes(layout, image, steps, self._version, windows)
        write_group(group, attributes, self._zarr, safely=True)
        return windows

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """Return all that describes the image, its levels, and the folders that it lies in."""
        if not planes_laid_out:
            return
        parts = image.file.split("/")
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        levels = [f"{image.file}/{name}" for name in self._levels_of(folder / image.file)]
        for place in (*above, f"{parts[0]}/OME", *levels):
            for name in _DESCRIPTIONS:
                if (folder / place / name).is_file():
                    yield f"{place}/{name}", ()

    def discard(self, path: Path) -> None:
        """Remove an image that no frame came for, and folders that held nothing but it."""
        while is_group(path, self._zarr):
            shutil.rmtree(path)
            path = path.parent
            if not is_group(path, self._zarr) or _images_in(path):
                return

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps readers from the frames of an image; nothing if all is well."""
        return damage(path, image)

    def damaged_level(
        self, path: Path, image: ImageLayout, places: Sequence[tuple[int, ...]]
    ) -> str:
        """Return which smaller level is not the mean of the one above; nothing if all are."""
        taken = TakenPlanes.of(image, places)
        levels = [path / name for name in self._levels_of(path)]
        return level_unlike_above(levels, image, taken, self._options)

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of one frame, found the way any reader of Zarr finds them."""
        return read_frame(open_level(path), image, tuple(ours["place"]))

    # ------------------------------------------------------------ helpers

    def _root_of(self, folder: Path) -> Any:
        """Return what the files of images are relative to, for a recording in `folder`."""
        return folder

    def _levels_of(self, group: Any) -> list[str]:
        return levels_of(group)

    def _finish_levels(self, group: Any, image: ImageLayout, planes: TakenPlanes) -> None:
        finish_levels(group, planes, self._zarr, self._options.z_factor)

    def _sync(self, folder: Any, layout: Layout) -> None:
        """Return when all images would survive a power cut, whoever wrote them."""
        for root in dict.fromkeys(image.file.split("/")[0] for image in layout.images):
            if (folder / root).is_dir():
                sync_tree(folder / root)

    def _describe_folders(self, folder: Any, layout: Layout, safely: bool) -> list[Path]:
        """Say in the folders above the images which images there are; return what was written."""
        groups: dict[str, Mapping[str, Any]] = {}
        inside: defaultdict[str, list[str]] = defaultdict(list)
        for image in layout.images:
            root, _, rest = image.file.partition("/")
            if rest:
                inside[root].append(rest)
        for root, images in inside.items():
            if layout.plate:
                groups |= self._plate_groups(root, layout.plate, images)
                continue
            groups[root] = series_root(self._version)
            groups[f"{root}/OME"] = series_attributes(images, self._version)
        return [
            file
            for name, attributes in groups.items()
            for file in write_group(folder / name, attributes, self._zarr, safely=safely)
        ]

    def _describe_series(self, folder: Any, layout: Layout) -> None:
        """Describe several images for readers that ask the OME-XML which there are."""
        if layout.plate or not any("/" in image.file for image in layout.images):
            return
        xml = series_xml(layout)
        if xml is not None:
            root = layout.images[0].file.split("/")[0]
            write_file(folder / root / "OME" / "METADATA.ome.xml", xml)

    def _plate_groups(
        self, root: str, plate: Mapping[str, Any], images: list[str]
    ) -> dict[str, Mapping[str, Any]]:
        """Return the groups of a plate above its images, each with what it says."""
        wells = wells_of(images)
        groups: dict[str, Mapping[str, Any]] = {}
        rows, columns = list(plate["rows"]), list(plate["columns"])
        fields = {}
        for well, names in wells.items():
            row, column = well.split("/")
            fields[rows.index(row), columns.index(column)] = len(names)
            groups[f"{root}/{row}"] = {}
            groups[f"{root}/{well}"] = well_attributes(names, self._version)
        groups[root] = plate_attributes(plate, fields, self._version)
        return groups


_DESCRIPTIONS = ("zarr.json", ".zarray", ".zattrs", ".zgroup", "METADATA.ome.xml")


def _images_in(group: Path) -> bool:
    return any(child.is_dir() and child.name != "OME" for child in group.iterdir())


def _windows(level: StoredLevel, image: ImageLayout, planes: TakenPlanes) -> dict[str, Window]:
    """Return what to show of each channel, from the plane in the middle of those it has."""
    labels = channel_labels(image)
    by_channel: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
    for place in map(tuple, planes.places.tolist()):
        channel = dict(zip(planes.axes, place, strict=True)).get("c", 0)
        by_channel[channel].append(place)
    windows = {}
    for channel, places in by_channel.items():
        # a damaged chunk is no reason to leave the rest unfinished
        with suppress(Exception):
            windows[labels[channel]] = contrast_window(level.read(places[len(places) // 2]))
    return windows
