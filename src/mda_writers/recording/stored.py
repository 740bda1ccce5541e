"""A recording as it is found on disk, finished or interrupted: its header, images and frames."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from mda_writers.errors import CorruptRecordingError
from mda_writers.model.layout import ImageLayout, Layout
from mda_writers.model.report import RecordingReport
from mda_writers.recording.reporting import read_recording
from mda_writers.sinks.journal import JOURNAL_SUFFIX, Journal
from mda_writers.sinks.sidecar import (
    RECORDING_SUFFIX,
    SIDECAR_SUFFIX,
    journal_path,
    read_sidecar,
    recording_path,
    sidecar_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIXES = (JOURNAL_SUFFIX, SIDECAR_SUFFIX, RECORDING_SUFFIX)


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """What the files beside a recording say about it.

    Attributes
    ----------
    path : Path
        The recording's main path.
    header : dict
        ``format``, ``set_id``, ``sequence``, ``summary_metadata``, ….
    images : dict
        Key → image.
    report : RecordingReport or None
        What became of it; None when it was interrupted, or is still being written.
    """

    path: Path
    header: dict[str, Any]
    images: dict[str, ImageLayout]
    report: RecordingReport | None

    @classmethod
    def find(cls, path: Path) -> StoredRecording:
        """Read the recording that `path` is a file of.

        Raises
        ------
        FileNotFoundError
            If there is none.
        CorruptRecordingError
            If what is known of it is cut or altered.
        """
        main = main_path(path)
        if not recording_path(main).exists():
            journal = Journal.read(journal_path(main))
            return cls(main, journal.header, _with_videos(journal), None)
        try:
            header = read_recording(main)
            layout = _LAYOUT.validate_python(header["layout"])
            report = _REPORT.validate_python(header["report"])
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise CorruptRecordingError(
                f"{recording_path(main)}: cut or altered ({error})."
            ) from error
        return cls(main, header, {image.key: image for image in layout.images}, report)

    def frames(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame on record."""
        if sidecar_path(self.path).exists():
            return read_sidecar(sidecar_path(self.path))
        return Journal.read(journal_path(self.path)).frames()


def main_path(path: Path) -> Path:
    """Return the main path of the recording that `path` belongs to.

    Parameters
    ----------
    path : Path
        The main path, an image's file, the journal, the sidecar or the report.

    Raises
    ------
    FileNotFoundError
        If no recording knows the file.
    """
    path = path.expanduser().absolute()
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix) and path.exists():
            path = path.with_name(path.name[: -len(suffix)])
    for folder in (path, *path.parents):  # an OME-Zarr is a folder full of files
        if _is_recording(folder):
            return folder
    for other in _recordings_in(path.parent):
        if path.name in _file_names(other):
            return other
    raise FileNotFoundError(
        f"{path}: no recording of mda-writers. Beside one there is {path.name}{JOURNAL_SUFFIX}, or "
        f"{path.name}{SIDECAR_SUFFIX} with {path.name}{RECORDING_SUFFIX}."
    )


def _with_videos(journal: Journal) -> dict[str, ImageLayout]:
    """Return the images of a journal; which videos an image is in, only its frames say by now."""
    if journal.header.get("format") != "video":
        return journal.images
    files: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for key, frame in journal.frames():
        files[key] |= dict.fromkeys(filter(None, [frame["mda_writers"].get("file")]))
    return {key: replace(image, files=tuple(files[key])) for key, image in journal.images.items()}


def _is_recording(path: Path) -> bool:
    # the root of a file system has no name, and no files beside it
    return bool(path.name) and (journal_path(path).exists() or recording_path(path).exists())


def _recordings_in(folder: Path) -> Iterator[Path]:
    for suffix in (RECORDING_SUFFIX, JOURNAL_SUFFIX):
        for file in sorted(folder.glob(f"*{suffix}")):
            yield file.with_name(file.name[: -len(suffix)])


def _file_names(path: Path) -> set[str]:
    try:
        images = StoredRecording.find(path).images.values()
        return {file for image in images for file in image.all_files}
    except (CorruptRecordingError, OSError):
        return set()


_LAYOUT = TypeAdapter(Layout)
_REPORT = TypeAdapter(RecordingReport)
