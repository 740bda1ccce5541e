"""OME-Zarr from anywhere: NGFF 0.4 and 0.5, single images, series, and plates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.ngff_description import ImageDescription, describe_image
from mda_writers.dataset.sources import Contents
from mda_writers.dataset.static_source import StaticSource
from mda_writers.dataset.zarr_read import read_box
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import Channel, ImageLayout, Layout, common_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ForeignZarr(StaticSource):
    """Reads an OME-Zarr folder or object store through zarr-python.

    Parameters
    ----------
    address : str
        A folder, or an address of an object store (``s3://…``; needs fsspec and its plug-in).
    storage_options : mapping, optional
        For the object store.

    Raises
    ------
    CorruptRecordingError
        If there is no Zarr array or OME-Zarr image.
    """

    def __init__(self, address: str, storage_options: Mapping[str, Any] | None = None) -> None:
        import zarr

        self._address = address
        self._storage_options = dict(storage_options or {}) or None
        self._levels: dict[str, list[Any]] = {}
        self._axes: dict[str, list[str]] = {}
        try:
            root = zarr.open(address, mode="r", storage_options=self._storage_options)
            self.contents = self._describe(root)
        except CorruptRecordingError:
            raise
        except Exception as error:  # whatever damaged metadata makes of zarr-python
            raise _corrupt(address, error) from error

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return frames by their place."""
        array = self._levels[image.key][level]
        try:
            return read_box(array, self._axes[image.key], image.sizes, np.asarray(slots))
        except Exception as error:
            raise _corrupt(self._address, error) from error

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every level that is stored."""
        return [tuple(array.shape[-2:]) for array in self._levels[image.key]]

    def level_depths(self, image: ImageLayout) -> list[int]:
        """Return the planes along z of every level that is stored."""
        axes = self._axes[image.key]
        z = axes.index("z") if "z" in axes else None
        return [1 if z is None else int(array.shape[z]) for array in self._levels[image.key]]

    def __reduce__(self) -> tuple[Any, ...]:
        return ForeignZarr, (self._address, self._storage_options)

    # ------------------------------------------------------------ what is in it

    def _describe(self, root: Any) -> Contents:
        import zarr

        if isinstance(root, zarr.Array):
            about = ImageDescription.of_array(
                root.ndim, getattr(root.metadata, "dimension_names", None)
            )
            images = [self._image("0", "", {}, about, [root])]
            return Contents(Layout(images=tuple(images)), dict(root.attrs))
        groups = list(_image_groups(root))
        abouts = [describe_image(_ngff(group)) for _, _, group in groups]
        names = [about.name or name for about, (name, _, _) in zip(abouts, groups, strict=True)]
        if len(set(names)) < len(names):  # the fields of a plate, as a rule: wells tell them apart
            names = [name for name, _, _ in groups]
        images = []
        for number, (about, (_, index, group)) in enumerate(zip(abouts, groups, strict=True)):
            levels = [group[path] for path in about.paths]
            several = index if len(groups) > 1 else {}
            images.append(self._image(str(number), names[number], several, about, levels))
        if not images:
            raise CorruptRecordingError(
                f"{self._address}: a Zarr group without an OME-Zarr image; open one of its arrays."
            )
        first = abouts[0]
        z_step_um, time_interval_s = common_steps(images)
        layout = Layout(
            images=tuple(images),
            pixel_size_um=first.pixel_size_um,
            z_step_um=z_step_um,
            time_interval_s=time_interval_s,
        )
        return Contents(layout, dict(root.attrs))

    def _image(
        self, key: str, name: str, index: dict[str, int], about: ImageDescription, levels: list[Any]
    ) -> ImageLayout:
        shape = levels[0].shape
        if len(shape) != len(about.axes) or about.axes[-2:] != ["y", "x"]:
            raise CorruptRecordingError(
                f"{self._address}: an array of shape {shape} with axes {about.axes}; the last two "
                "must be y and x."
            )
        self._levels[key], self._axes[key] = levels, about.axes[:-2]
        sizes = {a: int(n) for a, n in zip(about.axes[:-2], shape[:-2], strict=True)}
        names = about.channels if len(about.channels) == sizes.get("c", 1) else []
        return ImageLayout(
            key=key,
            name=name or key,
            index=index,
            sizes=sizes,
            frame_shape=tuple(int(n) for n in shape[-2:]),
            dtype=np.dtype(levels[0].dtype).newbyteorder("=").name,
            channels=tuple(Channel(n) for n in names) or (Channel(""),) * sizes.get("c", 1),
            position_um=about.position_um,
            z_step_um=about.z_step_um,
            time_interval_s=about.time_interval_s,
        )


def _ngff(group: Any) -> dict[str, Any]:
    """Return the NGFF metadata of a group: from 0.5 on in a place of its own."""
    attributes = dict(group.attrs)
    ours = attributes.get("ome", attributes)
    return dict(ours) if isinstance(ours, dict) else {}


def _image_groups(root: Any) -> Iterator[tuple[str, dict[str, int], Any]]:
    """Yield name, index and group of every image."""
    about = _ngff(root)
    if "multiscales" in about:
        yield "", {}, root
    elif "plate" in about:
        yield from _fields(root, about["plate"])
    else:
        for n, path in enumerate(_series(root, about)):
            yield path, {"p": n}, root[path]


def _fields(root: Any, plate: dict[str, Any]) -> Iterator[tuple[str, dict[str, int], Any]]:
    number = 0
    for well in plate["wells"]:
        group = root[well["path"]]
        for field in _ngff(group)["well"]["images"]:
            name = f"{well['path'].replace('/', '')}_{field['path']}"
            yield name, {"p": number}, group[field["path"]]
            number += 1


def _series(root: Any, about: dict[str, Any]) -> list[str]:
    """Return the paths of a series' images: as listed, or by number (bioformats2raw)."""
    listed = about.get("series") or (_ngff(root["OME"]).get("series") if "OME" in root else None)
    if listed:
        return [str(path) for path in listed]
    numbers = sorted((name for name in root.group_keys() if name.isdigit()), key=int)
    return [name for name in numbers if "multiscales" in _ngff(root[name])]


def _corrupt(address: str, error: Exception) -> CorruptRecordingError:
    return CorruptRecordingError(
        f"{address}: not a Zarr folder that can be read, incomplete, or altered "
        f"({type(error).__name__}: {error}). Copy it again if this is a copy."
    )
