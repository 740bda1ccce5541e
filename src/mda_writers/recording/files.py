"""The files of a recording: their names, those that exist, and what they say."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter, ValidationError

from mda_writers.errors import CorruptRecordingError, WriteError
from mda_writers.model.layout import ImageLayout, Layout
from mda_writers.model.names import OwnNames, split_suffix
from mda_writers.model.report import RecordingReport
from mda_writers.recording.journal import JOURNAL_SUFFIX, SEALS, Journal, is_intact, is_sealed
from mda_writers.recording.sidecar import read_sidecar
from mda_writers.storage.files import PATIENCE_S, FileLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SIDECAR_SUFFIX = "_frame_metadata.json"
RECORDING_SUFFIX = "_recording.json"
"""What concerns the recording as a whole: its report, layout, sequence, summary metadata."""

_SUFFIXES = (JOURNAL_SUFFIX, SIDECAR_SUFFIX, RECORDING_SUFFIX)


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """What the files beside a recording say about it.

    Attributes
    ----------
    path : Path
        The recording's main path.
    names : OwnNames
        What its files are called now.
    header : dict
        ``format``, ``set_id``, ``sequence``, ``summary_metadata``, ….
    images : dict
        Key → image.
    report : RecordingReport or None
        What became of it; None when it was interrupted, or is still being written.
    """

    path: Path
    names: OwnNames
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
        return cls.at(main_path(path))

    @classmethod
    def at(cls, main: Path) -> StoredRecording:
        """Read the recording whose main path is `main`; raises as `find` does."""
        if not recording_path(main).exists():
            journal = Journal.read(journal_path(main))
            return cls(main, journal.names, journal.header, _with_videos(journal), None)
        header, layout, report = read_recording(main)
        names = OwnNames.of(header, main)
        images = {image.key: names.image_now(image) for image in layout.images}
        return cls(main, names, header, images, report)

    def frames(
        self, altered: list[int] | None = None, *, trusting: bool = False
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the key and the metadata of every frame on record.

        Parameters
        ----------
        altered : list of int, optional
            Takes the numbers of altered lines, which are left out. Without it they are an error,
            but those of a journal, which `recover` leaves out, too.
        trusting : bool
            Whether altered lines of a sidecar are returned all the same.

        Raises
        ------
        CorruptRecordingError
            If the sidecar is cut or altered.
        """
        if sidecar_path(self.path).exists():
            frames = read_sidecar(sidecar_path(self.path), altered, trusting=trusting)
            return ((key, self.names.frame_now(frame)) for key, frame in frames)
        if self.report is not None:
            raise CorruptRecordingError(
                f"{sidecar_path(self.path)}: missing. The pixels can be read without it, the "
                "frames' metadata cannot."
            )
        journal = Journal.read(journal_path(self.path))
        if altered is not None:
            altered += journal.altered
        return journal.frames()


def read_recording(main: Path) -> tuple[dict[str, Any], Layout, RecordingReport]:
    """Return what `write_report` wrote for a recording, as JSON, and what it says of both.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    CorruptRecordingError
        If it is cut or altered.
    """
    path = recording_path(main)
    text = path.read_bytes()
    try:
        content = orjson.loads(text)
        layout = _LAYOUT.validate_python(content["layout"])
        report = _REPORT.validate_python(content["report"])
        counted = sum(count for runs in content["runs"].values() for _, _, count in runs)
        name = content["format"]
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise _corrupt(path, str(error).splitlines()[0]) from error
    is_whole = is_sealed(text) and text.endswith(b"}\n")
    if not is_intact(text) or (SEALS in content and not is_whole):
        raise _corrupt(path, "its seal is broken")
    if counted != report.frames_written or not isinstance(name, str):
        raise _corrupt(path, f"it lists {counted} frames and reports {report.frames_written}")
    return content, layout, report


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
    found = recording_of(path)
    if found is None:
        raise FileNotFoundError(
            f"{path}: no recording of mda-writers. Beside one there is {path.name}{JOURNAL_SUFFIX},"
            f" or {path.name}{SIDECAR_SUFFIX} with {path.name}{RECORDING_SUFFIX}."
        )
    return found


def recording_of(path: Path) -> Path | None:
    """Return the main path of the recording that `path` belongs to; None if it is of none.

    Raises
    ------
    CorruptRecordingError
        If it may be a file of a recording that does not know its files any more.
    """
    path = path.expanduser().absolute()
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            path = path.with_name(path.name.removesuffix(suffix))
    for folder in (path, *path.parents):  # an OME-Zarr is a folder full of files
        if _is_recording(folder):
            return folder
    damaged: CorruptRecordingError | None = None
    for file in (path, path.parent):  # a series has a folder for the files of each image
        for other in recordings_in(file.parent):
            if not file.name.startswith(split_suffix(other.name)[0]):
                continue
            try:
                if file.name in _file_names(other):
                    return other
            except CorruptRecordingError as error:
                damaged = error
    if damaged is not None and path.exists() and not path.is_dir():
        raise damaged
    return None


def recordings_in(folder: Path) -> list[Path]:
    """Return the main paths of the recordings in a folder."""
    if not folder.is_dir():
        return []
    found = {
        file.with_name(file.name.removesuffix(suffix))
        for suffix in (RECORDING_SUFFIX, JOURNAL_SUFFIX)
        for file in folder.glob(f"*{suffix}")
        if file.name != suffix
    }
    return sorted(found)


def owner_of(path: Path) -> Path | None:
    """Return the main path of another recording that the file `path` is part of."""
    for other in recordings_in(path.parent):
        stem = split_suffix(other.name)[0]
        if other == path or not path.name.startswith(f"{stem}_"):
            continue
        with suppress(CorruptRecordingError):
            if path.name in _file_names(other):
                return other
    return None


def lock_journal(main: Path) -> FileLock | None:
    """Return a lock on a recording's journal; None where there are no locks, and nobody writes.

    Raises
    ------
    WriteError
        If the recording is still being written.
    """
    try:
        return FileLock(journal_path(main), PATIENCE_S)
    except BlockingIOError as error:
        raise _still_written(main) from error
    except OSError as error:
        if is_alive(_process_of(main)):
            raise _still_written(main) from error
        return None


def _still_written(main: Path) -> WriteError:
    process = _process_of(main)
    return WriteError(
        f"{main}: still being written, by process {process.get('pid')} on {process.get('host')}. "
        "Nothing was changed; end the recording first."
    )


def _process_of(main: Path) -> dict[str, Any]:
    try:
        return dict(Journal.read(journal_path(main)).header.get("process") or {})
    except (CorruptRecordingError, OSError):
        return {}  # it has only just begun, or has just ended


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


def _file_names(path: Path) -> set[str]:
    images = StoredRecording.find(path).images.values()
    return {file.partition("/")[0] for image in images for file in image.all_files}


def _corrupt(path: Path, what: str) -> CorruptRecordingError:
    return CorruptRecordingError(
        f"{path}: cut or altered ({what}). Copy it again if this is a copy. The pixels can be "
        "read without it: move it away, and open the image files one by one."
    )


_LAYOUT = TypeAdapter(Layout)
_REPORT = TypeAdapter(RecordingReport)


def journal_path(path: Path) -> Path:
    """Return the journal of the recording at `path`."""
    return path.with_name(path.name + JOURNAL_SUFFIX)


def sidecar_path(path: Path) -> Path:
    """Return the sidecar of the recording at `path`."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def recording_path(path: Path) -> Path:
    """Return the file with the report of the recording at `path`."""
    return path.with_name(path.name + RECORDING_SUFFIX)
