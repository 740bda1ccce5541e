"""Which recordings a batch function is about."""

from __future__ import annotations

from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from mda_writers.batch.provenance import RECORD_SUFFIX
from mda_writers.dataset.opening import find_recording
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.names import fold, split_suffix, stays_inside
from mda_writers.recording.files import (
    StoredRecording,
    journal_path,
    recording_path,
    recordings_in,
    sidecar_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_ONE_DATASET = ("zarr.json", ".zattrs", ".zgroup", "NDTiff.index")
_OTHERS = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".btf", ".mp4", ".avi", ".mkv", ".mov")

_TIFF = (".tif", ".tiff", ".btf")


def find_inputs(
    paths: Path | str | Iterable[Path | str], *, ours_only: bool = False
) -> list[tuple[Path, Path]]:
    """Return the recordings that `paths` name, each with the folder that it was found through.

    A folder stands for all recordings in it and in the folders below, and for other images and
    videos there, if not only our own are wanted.

    Raises
    ------
    FileNotFoundError
        If one of `paths` does not exist, or holds nothing.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found: dict[Path, Path] = {}
    for each in given:
        path = Path(each).expanduser().absolute()
        is_folder = _is_plain_folder(path)
        inside = list(_recordings_below(path)) if is_folder else [path]
        if is_folder and ours_only:
            inside = [recording for recording in inside if find_recording(recording)]
        if not inside or not (path.exists() or find_recording(path)):
            what = "recording of mda-writers" if ours_only else "recording, image or video"
            raise FileNotFoundError(f"{path}: no {what} there.")
        root = path if is_folder else path.parent
        found |= {recording: root for recording in inside if recording not in found}
    return list(found.items())


def files_of(path: Path) -> list[Path]:
    """Return the files, and folders that are images, that a recording consists of.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    """
    main = find_recording(path)
    if main is None:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or recording.")
        return files_of_set(path)
    stored = StoredRecording.find(main)
    images = [main.parent / file for i in stored.images.values() for file in i.all_files]
    if main.is_dir():  # an OME-Zarr of several images, as a whole
        images = [main]
    about = [sidecar_path(main), recording_path(main), journal_path(main)]
    return [file for file in dict.fromkeys([*images, *about]) if file.exists()]


def outputs_for(inputs: Iterable[tuple[Path, Path]], output: Path, suffix: str) -> list[Path]:
    """Return a result for each input: in folder `output`, as inputs lie in theirs.

    Raises
    ------
    ValueError
        If two inputs would have the same result.
    """
    found: list[Path] = []
    taken: dict[str, Path] = {}
    for path, root in inputs:
        folder = output / path.parent.relative_to(root)
        target = folder / f"{split_suffix(path.name)[0]}{suffix}"
        other = taken.setdefault(fold(str(target)), path)
        if other != path:
            raise ValueError(
                f"{path} and {other} would both become {target}. Nothing was done; rename one of "
                "them, or work on them one after the other with different outputs."
            )
        found.append(target)
    return found


def _is_plain_folder(path: Path) -> bool:
    return (
        path.is_dir()
        and not (recording_path(path).exists() or journal_path(path).exists())
        and not any((path / name).exists() for name in _ONE_DATASET)
    )


def _recordings_below(folder: Path) -> Iterator[Path]:
    """Yield recordings of ours, and then what belongs to none of them, a folder at a time."""
    ours = recordings_in(folder)
    yield from ours
    known = {file for recording in ours for file in (recording, *_files_named(recording))}
    for path in sorted(folder.iterdir()):
        if path in known or path.name.startswith(".") or path.name.endswith(RECORD_SUFFIX):
            continue
        if path.is_dir():
            yield from [path] if not _is_plain_folder(path) else _recordings_below(path)
        elif split_suffix(path.name)[1].lower() in _OTHERS:
            yield path
            known.update(files_of_set(path))  # whoever reads one of them reads all


def _files_named(recording: Path) -> list[Path]:
    """Return the files of a recording; of one that does not know them any more, what is called so.

    That one shall fail by itself, and not keep the others from being worked on.
    """
    try:
        return files_of(recording)
    except CorruptRecordingError:
        return list(recording.parent.glob(f"{escape(split_suffix(recording.name)[0])}_*"))


def files_of_set(path: Path) -> list[Path]:
    """Return the files that are read when the image at `path` is: that one first.

    They are those that its OME-XML names, as far as they exist in its folder.
    """
    if path.suffix.lower() not in _TIFF:
        return [path]
    others = {path.parent / name for name in _file_names(_ome_xml(path))} - {path}
    return [path, *sorted(other for other in others if other.is_file())]


def _ome_xml(path: Path) -> str:
    """Return what a file says about its images; nothing if it is none that can be read."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            return tif.ome_metadata or ""
    except Exception:  # whatever a damaged header makes of tifffile; opening it will tell
        return ""


def _file_names(xml: str) -> set[str]:
    try:
        elements = ElementTree.fromstring(xml).iter() if xml else ()
    except ElementTree.ParseError:
        return set()
    named = {e.get("FileName", "") for e in elements if e.tag.rpartition("}")[2] == "UUID"}
    return {name for name in named if stays_inside(name)}
