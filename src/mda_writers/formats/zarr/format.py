"""The format OME-Zarr, from its first group to its final form."""

from __future__ import annotations

import shutil
from collections import defaultdict
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.base import Format
from mda_writers.formats.tiff.ome_xml import series_xml
from mda_writers.formats.zarr.image import ZarrImage, open_level, read_frame
from mda_writers.formats.zarr.ngff import (
    ZARR_FORMAT,
    Window,
    channel_labels,
    contrast_window,
    image_attributes,
    plate_attributes,
    series_attributes,
    series_root,
    well_attributes,
    wells_of,
)
from mda_writers.formats.zarr.options import ZarrOptions
from mda_writers.formats.zarr.pyramid import (
    TakenPlanes,
    complete_levels,
    level_unlike_above,
    z_steps,
)
from mda_writers.formats.zarr.shards import (
    MISSING,
    box_of,
    read_index,
    seal,
    shards_in,
    stored_level,
)
from mda_writers.formats.zarr.store import (
    is_group,
    read_shape,
    write_file,
    write_group,
    write_shape,
)
from mda_writers.storage.block_file import sync_tree
from mda_writers.storage.write_pool import LevelsPool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.formats.zarr.shards import StoredLevel
    from mda_writers.model.layout import ImageLayout, Layout, PlaneInfo


# OME-Zarr: the images of one recording in one folder, how they begin, and their final form.
#
# A recording of one image is that image: its levels lie in the folder itself. Several images are
# numbered (bioformats2raw layout), those of a well plate lie by row, column and field.


class OmeZarrFormat(Format):
    """The files of one recording as OME-Zarr.

    Parameters
    ----------
    options : ZarrOptions
        How images are stored.
    """

    name = "ome-zarr"
    new_pool = LevelsPool
    image_class: type[ZarrImage] = ZarrImage

    def __init__(self, options: ZarrOptions) -> None:
        self._options = options
        self._version = options.version
        self._zarr = ZARR_FORMAT[options.version]
        self._described: tuple[str, ...] = ()
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
        return self.image_class(group, image, layout, pool, self._options)

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


# The final form of an image's arrays: the shape of what was taken, and no chunk beyond it.
#
# Everything is found on the disk, so that it does not matter who wrote it, or with which options.


def levels_of(group: Path) -> list[str]:
    """Return the names of an image's levels, the largest first."""
    names = [child.name for child in group.iterdir() if child.is_dir() and child.name.isdigit()]
    return sorted(names, key=int)


def finish_levels(group: Path, planes: TakenPlanes, version: int, z_factor: int) -> None:
    """Bring all levels of an image into their final form.

    `planes` are those of the full resolution that are on disk.
    """
    for number, name in enumerate(levels_of(group)):
        folder = group / name
        here = planes.at_level(number, z_factor)
        shape = (*here.sizes, *read_shape(folder, version)[-2:])
        _remove_torn(folder)
        if version == 3:
            _finish_shards(folder, here.places)
        else:
            _finish_files(folder, here.places)
        if shape != read_shape(folder, version):
            write_shape(folder, shape, version, safely=True)


def damage(group: Path, image: ImageLayout) -> str:
    """Return what keeps a reader from the planes of an image; nothing if all is well."""
    import zarr

    try:
        array = zarr.open_array(group / "0", mode="r")
        if array.shape[-2:] != tuple(image.frame_shape[:2]) or array.dtype != image.dtype:
            return f"its array is {array.shape} {array.dtype}, not as it was written"
        for name in levels_of(group):
            array = zarr.open_array(group / name, mode="r")
            is_blosc = "blosc" in str(array.compressors).lower()
            if array.shards is not None:
                chunks = _chunks_a_shard(group / name)
                for path, _ in shards_in(group / name):
                    index = read_index(path, chunks)
                    if is_blosc:
                        _check_lengths(path, index[index[:, 0] != MISSING].tolist())
            elif is_blosc:
                for path in _chunk_files(group / name):
                    _check_lengths(path, [(0, path.stat().st_size)])
    except CorruptRecordingError as error:
        return str(error)
    except Exception as error:  # whatever altered metadata make zarr do
        return f"no readable Zarr array ({type(error).__name__}: {error})"
    return ""


def _chunk_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.name.isdigit() and path.is_file())


def _check_lengths(path: Path, chunks: Iterable[Sequence[int]]) -> None:
    """Check that chunks of blosc say how long they are: not every reader looks at that.

    Raises
    ------
    CorruptRecordingError
        If one says something else.
    """
    with path.open("rb") as stream:
        for offset, nbytes in chunks:
            stream.seek(offset + 12)
            told = int.from_bytes(stream.read(4), "little")
            if told != nbytes:
                raise CorruptRecordingError(
                    f"{path}: the chunk at byte {offset} has {nbytes} bytes and says {told}"
                )


def _finish_shards(folder: Path, planes: np.ndarray) -> None:
    box, tiles = box_of(folder)
    numbers = np.zeros(len(planes), int)
    for i, n in zip(planes.T, box, strict=True):
        numbers = numbers * n + i % n
    keep: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for index, number in zip((planes // np.array(box, int)).tolist(), numbers, strict=True):
        keep[tuple(index)].update(range(number * tiles, (number + 1) * tiles))
    for path, index in list(shards_in(folder)):
        if index in keep:
            seal(path, prod(box) * tiles, keep[index])
        else:
            path.unlink()


def _chunks_a_shard(folder: Path) -> int:
    box, tiles = box_of(folder)
    return prod(box) * tiles


def _finish_files(folder: Path, planes: np.ndarray) -> None:
    """Remove the chunks of planes that are not in the journal."""
    keep = {tuple(map(str, place)) for place in planes.tolist()}
    for path in list(folder.rglob("*")):
        *place, row, column = ("", "", *path.relative_to(folder).parts)[-planes.shape[1] - 2 :]
        is_chunk = row.isdigit() and column.isdigit() and path.is_file()
        if is_chunk and tuple(place) not in keep:
            path.unlink()


def _remove_torn(folder: Path) -> None:
    """Remove files that a killed process had not finished: they never got their names."""
    for path in list(folder.rglob(".*")):
        if path.name.endswith((".partial", ".tmp")):
            path.unlink()
