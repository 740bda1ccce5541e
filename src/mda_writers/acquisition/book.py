"""The manifest of a session that goes on: what it is made of, and written anew at each change."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from mda_writers.acquisition.file_entries import entries, hash_all
from mda_writers.acquisition.moment import Moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mda_writers.acquisition.manifest import Manifest, Producer, Status

_logger = logging.getLogger("mda_writers")


class Source(Protocol):
    """A device that the manifest tells of."""

    def entry(self, folder: Path) -> Producer:
        """Return what is known now, with paths relative to `folder`."""


class SessionBook:
    """Keeps a session's manifest true. All methods may be called from any thread.

    Parameters
    ----------
    path : Path
        The manifest's file.
    manifest : Manifest
        What is known at the beginning.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.interrupted = False
        self._manifest = manifest
        self._files: list[tuple[str, Path]] = []
        self._sources: list[Source] = []
        self._errors: list[BaseException] = []
        self._lock = threading.RLock()

    def add_file(self, role: str, path: Path) -> None:
        """Take in a file of the session itself; it is named as soon as it exists."""
        with self._lock:
            self._files.append((role, path))

    def add_source(self, source: Source) -> None:
        """Take in a device."""
        with self._lock:
            self._sources.append(source)
            self.write()

    def add_versions(self, found: Mapping[str, str]) -> None:
        """Take in versions that a microscope told."""
        with self._lock:
            self._manifest.versions.update(found)

    def changed(self, error: BaseException | None = None) -> None:
        """Take in that something began or ended, and what went wrong with it; never raises."""
        if error is not None:
            self.remember(error)
        try:
            self.write()
        except Exception as failure:
            self.remember(failure)

    def remember(self, error: BaseException) -> None:
        """Keep an error for the end of the session, each only once."""
        with self._lock:
            for leaf in _leaves(error):
                self.interrupted |= not isinstance(leaf, Exception)
                if not any(leaf is known for known in self._errors):
                    self._errors.append(leaf)
                    _logger.error("%s: %s", self.path.parent, describe(leaf))

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep what the block raises for the end; an interrupt goes on at once."""
        try:
            yield
        except BaseException as error:
            self.remember(error)
            if not isinstance(error, Exception):
                raise

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong so far."""
        with self._lock:
            return list(self._errors)

    def write(self) -> None:
        """Write the manifest as of now."""
        with self._lock:
            manifest, folder = self._manifest, self.path.parent
            manifest.producers = [source.entry(folder) for source in self._sources]
            manifest.files = [
                entry for role, file in self._files for entry in entries([file], folder, role)
            ]
            manifest.errors = [describe(error) for error in self._errors]
            manifest.write(self.path)

    def end(self) -> None:
        """Write what became of the session, then the same with the hashes of all files."""
        try:
            self.write()  # as of now: the status follows from it
            self._manifest.time_basis.stopped = Moment.now()
            self._conclude()
            # may take minutes, and may be interrupted: the manifest is true before and after
            with suppress(BaseException), self.remembering():
                hash_all(self._manifest, self.path.parent)
            self._conclude()
        except BaseException as error:
            self.remember(error)

    def _conclude(self) -> None:
        manifest = self._manifest
        manifest.status = self._status()
        manifest.complete = manifest.status == "finished" and all(
            producer.complete for producer in manifest.producers
        )
        manifest.errors = [describe(error) for error in self._errors]
        manifest.write(self.path)

    def _status(self) -> Status:
        if self.interrupted:
            return "interrupted"
        recordings = [r for p in self._manifest.producers for r in p.recordings]
        if self._errors or any(r.status == "failed" for r in recordings):
            return "failed"
        if any(r.status == "canceled" for r in recordings):
            return "canceled"
        return "finished"


def describe(error: BaseException) -> str:
    """Return an error on one line or more, as a manifest tells it."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the errors of a group one by one."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
