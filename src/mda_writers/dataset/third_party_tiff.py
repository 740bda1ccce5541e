"""TIFF files of third parties, described by their OME-XML."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from mda_writers.dataset.source import MISSING, Contents, StaticSource
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import Channel, ImageLayout, Layout, common_steps
from mda_writers.model.names import stays_inside
from mda_writers.model.report import MISSING_LISTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_SEQUENCE = "QI"
"""tifffile's names for planes in a row that nobody named; they are taken for time points."""

_UM = {
    None: 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "pm": 1e-6,
    "Å": 1e-4,
}
_S = {None: 1.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}


class ThirdPartyTiff(StaticSource):
    """Reads a TIFF file, or a set of OME-TIFF files, through tifffile.

    Parameters
    ----------
    path : Path
        The file, or any one of a set.

    Raises
    ------
    CorruptRecordingError
        If tifffile cannot read it.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self._path = path
        self._lock = threading.Lock()
        self._maps: dict[tuple[int, int], np.ndarray] = {}
        self._slots: dict[str, np.ndarray] = {}
        try:
            with tifffile.TiffFile(path) as tif:
                self._ome_xml = tif.ome_metadata if tif.is_ome else None
            own = own_set(self._ome_xml, path) if self._ome_xml else None
            self._tif = tifffile.TiffFile(path, omexml=None if own == self._ome_xml else own)
            self._series = list(self._tif.series)
            self.contents = self._describe()
        except CorruptRecordingError:
            raise
        except Exception as error:  # whatever a damaged header makes of tifffile
            raise _corrupt(path, error) from error

    def slots(self, key: str) -> np.ndarray:
        """Return the slot of every place; planes that an OME-TIFF leaves out are missing."""
        if key not in self._slots:
            number, start, _ = self._where[key]
            slots = np.asarray(super().slots(key) + start)
            slots[np.isin(slots, self._absent(number))] = MISSING
            self._slots[key] = slots
        return self._slots[key]

    def read(self, image: ImageLayout, slots: np.ndarray, level: int = 0) -> np.ndarray:
        """Return planes: through one memory map where they lie side by side in the file."""
        number, _, last = self._where[image.key]
        try:
            frames = self._read(number, slots, level)
        except CorruptRecordingError:
            raise
        except Exception as error:
            raise _corrupt(self._path, error) from error
        return np.moveaxis(frames, 1, -1) if last else frames

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, ...]]:
        """Return the frame shape of every level that is stored."""
        number, _, planar = self._where[image.key]
        shapes = [_frame_shape(level) for level in self._series[number].levels]
        return [(*shape[1:], shape[0]) if planar else shape for shape in shapes]

    def close(self) -> None:
        """Let go of the file."""
        self._maps.clear()
        self._tif.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ThirdPartyTiff, (self._path,)

    # ------------------------------------------------------------ what is in the file

    def _describe(self) -> Contents:
        self._where: dict[str, tuple[int, int, bool]] = {}
        text = self._tif.ome_metadata if self._tif.is_ome else None  # of its own set alone
        images = [i for n in range(len(self._series)) for i in self._images(n)]
        if not images:
            raise CorruptRecordingError(f"{self._path}: a TIFF file without an image.")
        if text:
            about, lost = describe_ome(text, images, self._path.parent)
            absent = any(self._absent(number) for number in range(len(self._series)))
            return Contents(
                about,
                {"ome_xml": self._ome_xml},
                complete=not lost and not absent,
                lost=tuple(lost),
            )
        other = self._tif.imagej_metadata or (self._tif.shaped_metadata or ({},))[0]
        return Contents(_plain_layout(images, dict(other or {})), dict(other or {}))

    def _absent(self, number: int) -> list[int]:
        """Return the planes of a series that no file of its set has."""
        series = self._series[number]
        if not self._tif.is_ome or series.dataoffset is not None or not self._paged(number):
            return []
        return [n for n in range(len(series.pages)) if series.pages[n] is None]

    def _images(self, number: int) -> list[ImageLayout]:
        """Return the images of one series: one for each index along axes other than t, c, z."""
        series = self._series[number]
        axes, shape = _named_axes(series)
        inner = {a: n for a, n in zip(axes, shape, strict=True) if a in ("t", "c", "z")}
        outer = {a: n for a, n in zip(axes, shape, strict=True) if a not in inner}
        if list(axes) != [*outer, *inner]:
            raise CorruptRecordingError(
                f"{self._path}: its axes {series.axes} are in an order that cannot be opened; "
                "read it with tifffile."
            )
        planar = "S" in series.axes and series.axes.index("S") < series.axes.index("Y")
        frame = _frame_shape(series)
        frame = (*frame[1:], frame[0]) if planar else frame
        images = []
        several = {"p": number} if len(self._series) > 1 else {}
        for n, where in enumerate(np.ndindex(*outer.values())):
            key = f"{number}-{n}"
            self._where[key] = (number, n * prod(inner.values()), planar)
            images.append(
                ImageLayout(
                    key=key,
                    name=series.name or f"{self._path.name}-{number}",
                    index={**several, **dict(zip(outer, where, strict=True))},
                    sizes=inner,
                    frame_shape=frame,
                    dtype=series.dtype.newbyteorder("=").name,
                    channels=(Channel(""),) * inner.get("c", 1),
                    file=self._path.name,
                )
            )
        return images

    # ------------------------------------------------------------ pixels

    def _read(self, number: int, slots: np.ndarray, level: int) -> np.ndarray:
        series = self._series[number].levels[level]
        shape, dtype = _frame_shape(series), series.dtype.newbyteorder("=")
        if series.dataoffset is not None:
            planes = self._map(number, level, series, shape)
            first = int(slots[0]) if len(slots) else 0
            if np.array_equal(slots, np.arange(first, first + len(slots))):
                return np.asarray(planes[first : first + len(slots)])
            return np.asarray(planes[slots])
        frames = np.empty((len(slots), *shape), dtype)
        for n, slot in enumerate(slots):
            frames[n] = self._page(number, series, int(slot), shape)
        return frames

    def _map(self, number: int, level: int, series: Any, shape: tuple[int, ...]) -> np.ndarray:
        if (number, level) not in self._maps:
            handle = series.pages[0].parent.filehandle
            dtype = series.dtype.newbyteorder(self._tif.byteorder)
            count = prod(series.shape) // prod(shape)
            mapped = np.memmap(handle.path, dtype, "r", series.dataoffset, (count, *shape))
            self._maps[number, level] = mapped.view(np.ndarray)
        return np.asarray(self._maps[number, level])

    def _page(self, number: int, series: Any, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        if not self._paged(number):
            return np.asarray(self._chunked(number, series, shape)[slot])
        page = series.pages[slot]
        # tifffile's file has one position for all threads
        with self._lock, _opened(page.parent.filehandle):
            end = max(
                (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)),
                default=0,
            )
            if end > page.parent.filehandle.size:
                raise CorruptRecordingError(
                    f"{page.parent.filehandle.path}: cut off; plane {slot} should end at byte "
                    f"{end}. Copy the file again if this is a copy."
                )
            return np.asarray(page.asarray()).reshape(shape)

    def _paged(self, number: int) -> bool:
        """Whether each page of a series is one frame."""
        series = self._series[number]
        return len(series.pages) * prod(_frame_shape(series)) == prod(series.shape)

    def _chunked(self, number: int, series: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return a series whose pages are no frames (volumes), read as a whole."""
        if (number, -1) not in self._maps:
            with self._lock:
                self._maps[number, -1] = series.asarray().reshape(-1, *shape)
        return self._maps[number, -1]


@contextmanager
def _opened(handle: Any) -> Iterator[None]:
    """Open a file for the block if it is closed, as tifffile leaves the other files of a set."""
    was_closed = handle.closed
    if was_closed:
        handle.open()
    try:
        yield
    finally:
        if was_closed:
            handle.close()


def _named_axes(series: Any) -> tuple[list[str], list[int]]:
    """Return our names of the axes before a frame's own, and their lengths."""
    names, lengths = [], []
    for axis, length in zip(series.axes, series.shape, strict=True):
        if axis in "YXS":
            continue
        name = axis.lower()
        if axis in _SEQUENCE and "T" not in series.axes and "t" not in names:
            name = "t"
        names.append(name)
        lengths.append(int(length))
    return names, lengths


def _frame_shape(series: Any) -> tuple[int, ...]:
    """Return the shape of a frame as it lies in the file: y, x, and samples before or behind."""
    return tuple(int(n) for axis, n in zip(series.axes, series.shape, strict=True) if axis in "YXS")


def _plain_layout(images: list[ImageLayout], about: dict[str, Any]) -> Layout:
    """Return what ImageJ's description tells of sizes."""
    spacing, interval = about.get("spacing"), about.get("finterval")
    return Layout(
        images=tuple(images),
        z_step_um=float(spacing) if isinstance(spacing, int | float) and spacing else None,
        time_interval_s=float(interval) if isinstance(interval, int | float) and interval else None,
    )


def _corrupt(path: Path, error: Exception) -> CorruptRecordingError:
    return CorruptRecordingError(
        f"{path}: not a TIFF file that can be read, cut off, or altered "
        f"({type(error).__name__}: {error}). Copy it again if this is a copy."
    )


# What the OME-XML of a file says about its images: names, sizes, channels, positions.
#
# Source: the OME data model 2016-06, https://docs.openmicroscopy.org/ome-model/latest/ . Read
# with the standard library: the files of others hold XML that strict models refuse.


def own_set(xml: str, path: Path) -> str:
    """Return the XML of the file at `path` without the names of files that are another set's.

    tifffile goes by names alone, and would show the pixels of whatever is called so.

    Raises
    ------
    CorruptRecordingError
        If it names a file that does not lie in its folder.
    """
    root = None
    with suppress(ET.ParseError):
        root = ET.fromstring(xml)
    if root is None:
        return xml
    named = [e for e in root.iter() if _name(e) == "UUID" and not _is_own(e, root, path)]
    others = {
        (name, uuid)
        for name, uuid in {(e.get("FileName", ""), e.text) for e in named}
        if _is_of_another_set(path, name, uuid)
    }
    for element in named:
        if (element.get("FileName", ""), element.text) in others:
            element.set("FileName", "")
    return ET.tostring(root, "unicode") if others else xml


def _is_own(element: ET.Element, root: ET.Element, path: Path) -> bool:
    """Return whether the file that is opened is meant: it may have been renamed."""
    if root.get("UUID") is not None:
        return element.text == root.get("UUID")
    return element.get("FileName", "").lower() == path.name.lower()


def _is_of_another_set(path: Path, name: str, uuid: str | None) -> bool:
    import tifffile

    if name and not stays_inside(name):
        raise CorruptRecordingError(
            f"{path}: altered, or made to be read elsewhere. It names the file {name!r}, which "
            f"does not lie in {path.parent}. Nothing there was touched; put the files of a set "
            "into one folder."
        )
    if not name or not (path.parent / name).is_file():
        return False
    with suppress(Exception), tifffile.TiffFile(path.parent / name) as tif:
        found = ET.fromstring(tif.ome_metadata or "").get("UUID")
        return found is not None and found != uuid
    return False  # not OME-TIFF, or damaged: it has no name of its own


def describe_ome(
    xml: str, images: Sequence[ImageLayout], folder: Path
) -> tuple[Layout, list[dict[str, Any]]]:
    """Return the layout of `images` with what their XML says; as they are where it is broken.

    Parameters
    ----------
    xml : str
        The description of a set of files.
    images : sequence of ImageLayout
        Those of its images that have a file here.
    folder : Path
        Where the files are.

    Returns
    -------
    layout : Layout
    lost : list of dict
        The coordinates of all planes of images that have no file here, at most `MISSING_LISTED`.
    """
    root = None
    with suppress(ET.ParseError):
        root = ET.fromstring(xml)
    every = [] if root is None else [e for e in root if _name(e) == "Image"]
    elements = every
    if root is not None and len(every) != len(images):
        elements = [e for e in every if _has_file(e, root.get("UUID"), folder)]
    if len(elements) != len(images):
        return Layout(images=tuple(images)), []
    described = tuple(map(_described, images, elements))
    pixels = _child(elements[0], "Pixels")
    if pixels is None:
        return Layout(images=described), []
    z_step_um, time_interval_s = common_steps(described)
    layout = Layout(
        images=described,
        pixel_size_um=_number(pixels, "PhysicalSizeX", _UM),
        z_step_um=z_step_um,
        time_interval_s=time_interval_s,
    )
    lost = (plane for e in every if e not in elements for plane in _planes(e))
    return layout, list(islice(lost, MISSING_LISTED))


def _planes(image: ET.Element) -> Iterator[dict[str, Any]]:
    """Return the coordinates of all planes of an image; axes of length one are left out."""
    pixels = _child(image, "Pixels")
    if pixels is None:
        return
    channels = [e for e in pixels if _name(e) == "Channel"]
    names = [e.get("Name") or n for n, e in enumerate(channels)]
    sizes = {a: int(_number(pixels, f"Size{a.upper()}", {None: 1.0}) or 1) for a in "tcz"}
    sizes["c"] = len(names) or sizes["c"]
    for place in np.ndindex(*sizes.values()):
        where = {a: n for (a, size), n in zip(sizes.items(), place, strict=True) if size > 1}
        if "c" in where and names:
            where["c"] = names[where["c"]]
        yield {"p": image.get("Name") or image.get("ID") or "", **where}


def _has_file(image: ET.Element, own_uuid: str | None, folder: Path) -> bool:
    """Return whether a file with planes of an image is here: the one that was opened, or another.

    The one that was opened is known by its UUID: it may have been renamed.
    """
    pixels = _child(image, "Pixels")
    blocks = [] if pixels is None else [e for e in pixels if _name(e) == "TiffData"]
    for block in blocks:
        file = _child(block, "UUID")
        if file is None or file.text == own_uuid:
            return True
        name = file.get("FileName")
        if name and (folder / name).exists():
            return True
    return False


def _described(image: ImageLayout, element: ET.Element) -> ImageLayout:
    pixels = _child(element, "Pixels")
    channels = [] if pixels is None else [e for e in pixels if _name(e) == "Channel"]
    named = tuple(Channel(e.get("Name") or "") for e in channels)
    count = image.sizes.get("c", 1)
    return replace(
        image,
        name=element.get("Name") or image.name,
        channels=named if len(named) == count else image.channels,
        position_um=_position(element),
        z_step_um=None if pixels is None else _number(pixels, "PhysicalSizeZ", _UM),
        time_interval_s=None if pixels is None else _number(pixels, "TimeIncrement", _S),
    )


def _position(element: ET.Element) -> tuple[float | None, float | None, float | None] | None:
    """Return the stage's position: of the first plane, or of the label."""
    pixels = _child(element, "Pixels")
    plane = None if pixels is None else _child(pixels, "Plane")
    label = _child(element, "StageLabel")
    for source, prefix in ((plane, "Position"), (label, "")):
        if source is not None and source.get(f"{prefix}X") is not None:
            x, y, z = (_number(source, f"{prefix}{axis}", _UM) for axis in "XYZ")
            return x, y, z
    return None


def _number(element: ET.Element, name: str, units: dict[str | None, float]) -> float | None:
    """Return an attribute in µm or s; None if it is missing, broken, or in another unit."""
    factor = units.get(element.get(f"{name}Unit"))
    try:
        return float(element.get(name, "")) * factor if factor else None
    except ValueError:
        return None


def _child(element: ET.Element, name: str) -> ET.Element | None:
    return next((child for child in element if _name(child) == name), None)


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
