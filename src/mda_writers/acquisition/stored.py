"""A session as it is found on disk: what it says about itself, and its data."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mda_writers.acquisition.logs import read_csv
from mda_writers.acquisition.manifest import Manifest
from mda_writers.storage.files import FileLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.acquisition.manifest import Recording, Status


class StoredAcquisition:
    """What `Acquisition.open` returns: a session to read, finished, going on or crashed.

    Nothing on disk is changed. The folder may have been moved together.

    Parameters
    ----------
    manifest : Path
        The manifest's file.
    """

    def __init__(self, manifest: Path) -> None:
        self.path = manifest
        self.folder = manifest.parent
        self.manifest = Manifest.read(manifest)

    @property
    def status(self) -> Status:
        """The manifest's status; ``crashed`` where it says "recording" and its process is gone."""
        if self.manifest.status != "recording" or self._is_going_on():
            return self.manifest.status
        # it may have ended between the two looks
        self.manifest = Manifest.read(self.path)
        return "crashed" if self.manifest.status == "recording" else self.manifest.status

    @property
    def complete(self) -> bool:
        """Whether every recording of the session is complete."""
        return self.manifest.complete

    @property
    def devices(self) -> list[str]:
        """The names of all devices, in the order in which they were added."""
        return list(dict.fromkeys(producer.device for producer in self.manifest.producers))

    def recordings(self, device: str) -> list[Recording]:
        """Return the recordings of a device, in order.

        Raises
        ------
        KeyError
            If there is no such device, with the names of those that there are.
        """
        found = [p for p in self.manifest.producers if p.device == device]
        if not found:
            raise KeyError(f"{device}; there are {', '.join(self.devices) or 'none'}.")
        return [r for p in found if p.kind == "frames" for r in p.recordings]

    def dataset(self, device: str, number: int = 0) -> Any:
        """Return a recording of a device as a `Dataset`.

        Parameters
        ----------
        device : str
            The device's name.
        number : int
            Which of its recordings, from 0; -1 is the last.

        Raises
        ------
        KeyError
            If there is no such device.
        IndexError
            If it has no such recording.
        """
        recordings = self.recordings(device)
        if not -len(recordings) <= number < len(recordings):
            raise IndexError(f"{device} has {len(recordings)} recordings, there is no {number}.")
        return _open_dataset(self.path_of(recordings[number]))

    def datasets(self) -> dict[str, list[Any]]:
        """Return every recording, by device."""
        found = {device: self.recordings(device) for device in self.devices}
        return {
            device: [_open_dataset(self.path_of(r)) for r in recordings]
            for device, recordings in found.items()
            if recordings
        }

    def path_of(self, recording: Recording) -> Path:
        """Return the path of a recording, as `open_dataset` takes it."""
        return self.folder / recording.folder / recording.name

    def log(self, device: str) -> Iterator[dict[str, str]]:
        """Return the rows of a device's log, one in memory at a time.

        Raises
        ------
        KeyError
            If that device has no log.
        """
        logs = [p for p in self.manifest.producers if p.kind == "log"]
        for producer in logs:
            if producer.device == device:
                return read_csv(self.path_of(producer.recordings[0]))
        names = ", ".join(p.device for p in logs)
        raise KeyError(f"{device}; there are logs of {names or 'no device'}.")

    @property
    def notes(self) -> list[dict[str, str]]:
        """Every note: ``time``, ``unix_time_s``, ``monotonic_s``, ``note``."""
        return [row for file in self._files("notes") for row in read_csv(file)]

    @property
    def timestamps(self) -> list[dict[str, str]]:
        """A row for every recording: ``device``, ``started``, ``stopped``, on both clocks."""
        return [row for file in self._files("timestamps") for row in read_csv(file)]

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """The microscope's configuration at each of its runs."""
        files = [file for file in self._files("configuration") if file.suffix == ".json"]
        return [orjson.loads(file.read_bytes()) for file in files]

    def _files(self, role: str) -> list[Path]:
        return [self.folder / entry.path for entry in self.manifest.files if entry.role == role]

    def _is_going_on(self) -> bool:
        for notes in self._files("notes"):
            try:
                FileLock(notes).release()
                return False
            except BlockingIOError:
                return True
            except OSError:
                continue  # no locks here, or nothing that we may open
        return is_alive(self.manifest.process)


def find_manifest(path: Path) -> Path:
    """Return the manifest at `path`, or the only one in the folder `path`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If there are several; all are named.
    """
    path = path.expanduser().absolute()
    if not path.is_dir():
        return path
    found = manifests_in(path)
    if not found:
        raise FileNotFoundError(f"{path}: no manifest.json. Give the folder of a session.")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ValueError(f"{path}: several sessions, {names}. Give the path of one of them.")
    return found[0]


def manifests_in(folder: Path) -> list[Path]:
    """Return the manifests in a folder: several sessions may share one."""
    return sorted(file for file in folder.glob("*manifest*.json") if not file.name.startswith("."))


def _open_dataset(path: Path) -> Any:
    # by name, when it is wanted: Dask is slow to import
    return getattr(import_module("mda_writers"), "open_dataset")(path)  # noqa: B009 - for mypy
