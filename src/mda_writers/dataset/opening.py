"""What is at a path, and what reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mda_writers.dataset.dataset import Dataset
from mda_writers.dataset.recording_source import RecordingSource
from mda_writers.errors import CorruptRecordingError
from mda_writers.recording.files import (
    RECORDING_SUFFIX,
    SIDECAR_SUFFIX,
    StoredRecording,
    recording_of,
    recordings_in,
)
from mda_writers.recording.journal import JOURNAL_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mda_writers.dataset.source import FrameSource

_OURS = (RECORDING_SUFFIX, SIDECAR_SUFFIX, JOURNAL_SUFFIX)
_TIFF = (".tif", ".tiff", ".btf")
_VIDEO = (".mp4", ".avi", ".mkv", ".mov")


def open_dataset(path: Any, *, storage_options: Mapping[str, Any] | None = None) -> Dataset:
    """Open a recording, finished or not, of this package or of a third party.

    Parameters
    ----------
    path : path-like, or a writer
        The recording's name as it was given to its writer, any of its files, or a folder that
        holds one recording; an OME-TIFF, OME-Zarr, NDTiff folder or video from anywhere. Or one
        of our writers, to look at what it is writing. Or the address of an OME-Zarr in an object
        store, ``s3://bucket/exp.ome.zarr``; where the current folder holds the sidecar of that
        very recording, it is opened with its metadata.
    storage_options : mapping, optional
        For object stores, as to the writer: key, secret, endpoint_url, …

    Raises
    ------
    FileNotFoundError
        If there is nothing; the recordings in that folder are listed.
    CorruptRecordingError
        If what is there is cut, altered, or no recording at all.
    """
    named = _path_of(path)
    if isinstance(named, str):
        return Dataset(_of_store(named, storage_options), named)
    recording = find_recording(named)
    if recording is not None:
        return Dataset(RecordingSource(recording, storage_options), recording)
    return Dataset(_third_party(named), named)


def _path_of(path: Any) -> Path | str:
    """Return the path that was meant; an address of an object store stays text."""
    if isinstance(path, str) and "://" in path:
        return path
    if hasattr(path, "frames_written"):  # a writer: its last run may have taken a free name
        taken = [file for file in path.paths if file.name.endswith(_OURS)]
        return taken[0] if taken else Path(path.path)
    return Path(path).expanduser().absolute()


def _of_store(address: str, storage_options: Mapping[str, Any] | None) -> FrameSource:
    """Return what reads an address; what its writer left in the current folder says the most."""
    from mda_writers.dataset.third_party_zarr import ThirdPartyZarr

    beside = Path.cwd() / address.rstrip("/").rpartition("/")[2]
    if recording_of(beside) == beside and _address_of(beside) == address.rstrip("/"):
        return RecordingSource(beside, storage_options)
    return ThirdPartyZarr(address, storage_options)


def _address_of(recording: Path) -> str:
    return str(StoredRecording.find(recording).header.get("url", ""))


def _third_party(path: Path) -> FrameSource:
    if not path.exists():
        raise FileNotFoundError(_nothing_at(path))
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in _TIFF:
        from mda_writers.dataset.third_party_tiff import ThirdPartyTiff

        return ThirdPartyTiff(path)
    if path.suffix.lower() in _VIDEO:
        from mda_writers.dataset.third_party_video import ThirdPartyVideo

        return ThirdPartyVideo(path)
    raise CorruptRecordingError(
        f"{path}: not a file that can be opened; known are TIFF ({', '.join(_TIFF)}), "
        f"video ({', '.join(_VIDEO)}), Zarr and NDTiff folders, and recordings of this package."
    )


def find_recording(path: Path) -> Path | None:
    """Return the main path of the recording of ours that `path` belongs to; None if of none.

    A folder that holds one recording stands for it.
    """
    found = recording_of(path)
    if found is not None or not path.is_dir():
        return found
    inside = recordings_in(path)
    if len(inside) > 1:
        raise CorruptRecordingError(
            f"{path}: {len(inside)} recordings; open one of them: "
            f"{', '.join(each.name for each in inside[:20])}."
        )
    return inside[0] if inside else None


def _folder(path: Path) -> FrameSource:
    if any((path / name / "NDTiff.index").exists() for name in (".", "Full resolution")):
        from mda_writers.dataset.ndtiff import NDTiffSource

        return NDTiffSource(path)
    if any((path / name).exists() for name in ("zarr.json", ".zattrs", ".zgroup")):
        from mda_writers.dataset.third_party_zarr import ThirdPartyZarr

        return ThirdPartyZarr(str(path))
    raise CorruptRecordingError(
        f"{path}: a folder without a recording of this package, and neither Zarr nor NDTiff."
    )


def _nothing_at(path: Path) -> str:
    others = [each.name for each in recordings_in(path.parent)]
    listed = ", ".join(others[:20]) or "none"
    return f"{path}: no such file or recording. Recordings in {path.parent}: {listed}."
