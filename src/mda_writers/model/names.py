"""Names of files and positions: made safe for file systems, and unique."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from string import Formatter
from typing import TYPE_CHECKING, Any

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import ImageLayout

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from useq import MDASequence, WellPlatePlan


MAX_NAME_LENGTH = 80
"""Characters kept of a position's name, and up to twice as many bytes."""

NAME_BYTES = 255
"""Bytes of a name in common file systems."""

RECORDING_BYTES = 200
"""Bytes of a recording's own name at most. While it is written, its sidecar is called
``.<name>_frame_metadata.json.<process>.tmp``, 33 bytes more, and each of its images
``.<stem>_<position>_<channel>_<number><suffix>.<process>.tmp``."""

CHANNEL_BYTES = 17
"""Bytes that a position leaves for a channel behind it, in names that have both."""

_NUMBER_BYTES = len("_99999")
_UNFINISHED_BYTES = len(".") + len(".4194304.tmp")
"""Bytes by which an image's file is longer while it is written."""

_DOUBLE_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.zarr")

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_NUMBERED = {f"{device}{n}" for device in ("com", "lpt") for n in "123456789¹²³"}
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | _NUMBERED
# the last two are what XML cannot hold, and OME-XML names the files
_ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ufffe\uffff]')

FIELDS = ("c", "t", "p", "channel", "position")
"""What a template may name: channel, time point and position by number, the first and the last
also by name."""

FileOf = Callable[[Mapping[str, int]], str]
"""An image's index → its folder, relative to the recording's; asked once for every image."""


def split_suffix(name: str) -> tuple[str, str]:
    """Return the stem and the complete suffix: ``"a.b.ome.tiff"`` → ``("a.b", ".ome.tiff")``."""
    lower = name.lower()
    for suffix in _DOUBLE_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def with_stem_suffix(path: Path, addition: str) -> Path:
    """Return `path` with `addition` put before its complete suffix."""
    stem, suffix = split_suffix(path.name)
    return path.with_name(f"{stem}{addition}{suffix}")


@dataclass(frozen=True, slots=True)
class OwnNames:
    """The names of a recording's files: what its metadata call them, and what they are called now.

    The one gate for names that are read. What is said to be a file of a recording begins with the
    recording's stem and is in the recording's folder, or it is not opened, changed or removed.
    A recording that was renamed, all of its files alike, has another stem now.

    Attributes
    ----------
    recorded : str
        The recording's own name as its metadata have it.
    path : Path
        Its main path.
    """

    recorded: str
    path: Path

    @classmethod
    def of(cls, header: Mapping[str, Any], path: Path) -> OwnNames:
        """Return the names of the recording at `path` that has this header."""
        recorded = header.get("path", path.name)
        if not isinstance(recorded, str) or not is_plain(recorded):
            raise CorruptRecordingError(
                f"{path}: altered. Its name is said to be {recorded!r}, which is no file name."
            )
        return cls(recorded, path)

    def now(self, name: Any) -> str:
        """Return what the file that the metadata call `name` is called now.

        Raises
        ------
        CorruptRecordingError
            If no file of this recording can have such a name.
        """
        first, *inner = name.split("/") if isinstance(name, str) else [""]
        stem, suffix = split_suffix(self.path.name)
        old_stem, old_suffix = split_suffix(self.recorded)
        rest = first[len(old_stem) :] if first.startswith(old_stem) else ""
        is_main = first == self.recorded
        if not inner and first.startswith(f"{self.recorded}_"):  # what describes the recording
            old_suffix, suffix, rest = "", "", first[len(self.recorded) :]
            stem = self.path.name
        if not is_plain(first) or not (is_main or (rest.startswith("_") and not inner)):
            raise self._foreign(name)
        if inner and not stays_inside("/".join(inner)):
            raise self._foreign(name)
        if is_main:
            return "/".join([self.path.name, *inner])
        if old_suffix and rest.endswith(old_suffix):
            rest = rest.removesuffix(old_suffix) + suffix
        return stem + rest

    def inside_now(self, name: str) -> str:
        """Return the same for a file in a folder of this recording, such as a Zarr store.

        Raises
        ------
        CorruptRecordingError
            If no file of this recording can have such a name.
        """
        first, *inner = name.split("/")
        if inner and not stays_inside("/".join(inner)):
            raise self._foreign(name)
        return "/".join([self.now(first), *inner])

    def inside_then(self, name: str) -> str:
        """Return what the metadata call the file in a folder that is called `name` now."""
        first, *inner = name.split("/")
        return "/".join([self.then(first), *inner])

    def then(self, name: str) -> str:
        """Return what the metadata call the file that is called `name` now."""
        return OwnNames(self.path.name, self.path.with_name(self.recorded)).now(name)

    def image_now(self, image: ImageLayout) -> ImageLayout:
        """Return an image of the metadata with the names that its files have now."""
        return replace(
            image, file=self.now(image.file), files=tuple(self.now(file) for file in image.files)
        )

    def image_then(self, image: ImageLayout) -> ImageLayout:
        """Return an image with the names that the metadata have for its files."""
        return replace(
            image, file=self.then(image.file), files=tuple(self.then(file) for file in image.files)
        )

    def frame_now(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Return a frame's metadata with the name that its file has now."""
        ours = frame["mda_writers"]
        if "file" in ours:
            file = ours["file"]
            ours["file"] = _name_now(self, file) if isinstance(file, str) else self.now(file)
        return frame

    def _foreign(self, name: Any) -> CorruptRecordingError:
        return CorruptRecordingError(
            f"{self.path}: altered. It names the file {name!r}, and its own files are called "
            f"{split_suffix(self.recorded)[0]}…, without a folder. Nothing there was touched."
        )


@lru_cache(maxsize=4096)
def _name_now(names: OwnNames, name: str) -> str:
    """Remember what a file is called now: every frame names its file, and few files have many."""
    return names.now(name)


def is_plain(name: str) -> bool:
    """Return whether a name stays in its folder, on every system."""
    return name not in ("", ".", "..") and not _LEADS_ELSEWHERE.search(name)


def stays_inside(name: str) -> bool:
    """Return whether a relative path with forward slashes stays in its folder, on every system."""
    return all(is_plain(part) and part[1:2] != ":" for part in name.split("/"))


_LEADS_ELSEWHERE = re.compile(r"[/\\\x00]")


def check_name(name: str) -> None:
    """Refuse a recording's name beside which not all of its files would find theirs.

    Raises
    ------
    ValueError
        If it is too long, or no text.
    """
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!a}: is no text, which names of recordings must be.") from error
    if length > RECORDING_BYTES:
        raise ValueError(
            f"{name}: {length} bytes are too long for a recording's name; {RECORDING_BYTES} leave "
            "room for what is written beside it. Shorten it."
        )


def room_behind(stem: str, suffix: str) -> int:
    """Return the bytes that a part may have in a file's name ``<stem>_<part><suffix>``.

    There is room for a number behind it, and for what the file is called while it is written.
    """
    around = len(f"{stem}_{suffix}".encode()) + _NUMBER_BYTES + _UNFINISHED_BYTES
    return NAME_BYTES - around


def safe_name(name: str, max_length: int = MAX_NAME_LENGTH, max_bytes: int | None = None) -> str:
    """Return `name` as a file name that Windows, macOS and Linux all accept.

    Letters of any script stay. What a file system forbids becomes ``-``; a name that nothing is
    left of becomes ``_``. Two names may become one: see `unique_name`.

    Parameters
    ----------
    name : str
        Any text.
    max_length : int
        Characters to keep.
    max_bytes : int, optional
        Bytes to keep; by default twice as many.
    """
    # lone surrogates as they are on record: a name read from there gives the same file name
    name = name.encode("utf-8", "backslashreplace").decode()
    text = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cf"))
    # an encoded file name is NFC on Linux and Windows; macOS would fold two spellings into one
    text = _ILLEGAL.sub("-", unicodedata.normalize("NFC", text))
    text = _shorten(text, max_length, max_bytes or 2 * max_length).strip(" .")
    if text.split(".")[0].rstrip(" ").lower() in _RESERVED:
        text = f"_{text}"
    return text or "_"


def unique_name(name: str, taken: Container[str]) -> str:
    """Return `name`, or `name` with the first free number, so that its folded form is new.

    Parameters
    ----------
    name : str
        A safe name.
    taken : container of str
        Folded names (`fold`) that exist already.
    """
    if fold(name) not in taken:
        return name
    number = 1
    while fold(f"{name}_{number}") in taken:
        number += 1
    return f"{name}_{number}"


def fold(name: str) -> str:
    """Return what two names have in common if a file system would take them for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())


def _shorten(text: str, max_length: int, max_bytes: int) -> str:
    text = text[:max_length]
    # file systems count bytes, and a letter may have four
    while len(text.encode()) > max_bytes:
        text = text[:-1]
    return text


def check_template(template: str) -> None:
    """Look at a template before anything is known of the frames.

    Raises
    ------
    ValueError
        If it cannot give file names.
    """
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
        name = template.format(c=0, t=0, p=0, channel="DAPI", position="Pos0")
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"template {template!r}: {_how()} ({error})") from error
    unknown = [field for field in fields if field not in FIELDS]
    if unknown or safe_name(name) != name:
        raise ValueError(f"template {template!r} gives the file name {name!r}: {_how()}")


def file_name(template: str, image: ImageLayout, c: int, t: int) -> str:
    """Return the name, without a suffix, of the file for one channel and time point."""
    channel = image.channels[c].name if c < len(image.channels) else ""
    return template.format(
        c=c,
        t=t,
        p=image.index.get("p", 0),
        channel=safe_name(channel) if channel else f"CH{c:02d}",
        position=image.key,
    )


def check_unique(template: str, image: ImageLayout, first_t: int) -> None:
    """See that no two files of an image would have one name.

    Raises
    ------
    ValueError
        Naming two that would.
    """
    places = product(range(image.sizes.get("c", 1)), range(image.sizes.get("t", 1)))
    seen: dict[str, tuple[int, int]] = {}
    for c, t in places:
        name = fold(file_name(template, image, c, first_t + t))
        if name in seen:
            raise ValueError(
                f"template {template!r} gives {name!r} for c={c}, t={t} and for c={seen[name][0]}, "
                f"t={seen[name][1]}: {_how()}"
            )
        seen[name] = (c, t)


def check_open(template: str) -> None:
    """See that a template will do for frames of which nothing is known.

    Raises
    ------
    ValueError
        If it might give two files one name.
    """
    if "channel" in {field for _, field, _, _ in Formatter().parse(template)}:
        raise ValueError(
            f"template {template!r}: what the channels of a list of events are called is not known "
            "beforehand; name them by number, {c:02d}."
        )
    check_unique(template, ImageLayout("", "", {}, {"c": 12, "t": 120}, (), ""), 0)


def _how() -> str:
    return f"it takes {', '.join(FIELDS)}, without folders, for example 'CH{{c:02d}}_{{t:06d}}'."


def numbered(folder: str) -> FileOf:
    """Return a rule that numbers the images: ``folder/0``, ``folder/1``, …."""
    numbers = Counter[str]()
    return lambda index: _next(folder, numbers)


def by_well(folder: str, plate: Mapping[str, Any]) -> FileOf:
    """Return a rule that puts the images of a well side by side: ``folder/A/1/0``, ….

    Parameters
    ----------
    folder : str
        The recording's folder.
    plate : mapping
        What `describe_plate` returned.
    """
    numbers = Counter[str]()

    def file_of(index: Mapping[str, int]) -> str:
        row, column = plate["wells"][index.get("p", 0) // plate["points_per_well"]]
        well = f"{folder}/{plate['rows'][row]}/{plate['columns'][column]}"
        return _next(well, numbers)

    return file_of


def describe_plate(sequence: MDASequence) -> dict[str, Any]:
    """Return the plate of a sequence: names of rows and columns, the selected wells in order.

    Empty for a sequence without a plate. ``wells`` holds ``(row, column)`` from 0, and position
    p is in well ``p // points_per_well``.
    """
    from useq import WellPlatePlan

    plan = sequence.stage_positions
    return _describe(plan) if isinstance(plan, WellPlatePlan) else {}


def _describe(plan: WellPlatePlan) -> dict[str, Any]:
    plate = plan.plate
    return {
        "name": plate.name or "plate",
        "rows": [_row_name(n) for n in range(plate.rows)],
        "columns": [str(n + 1) for n in range(plate.columns)],
        "wells": [(int(row), int(column)) for row, column in plan.selected_well_indices],
        "points_per_well": int(plan.num_points_per_well),
    }


def _row_name(number: int) -> str:
    """Return A … Z, AA … as plates are labelled."""
    name = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def _next(folder: str, numbers: Counter[str]) -> str:
    number = numbers[folder]
    numbers[folder] += 1
    return f"{folder}/{number}"
