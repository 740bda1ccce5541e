"""Results are written in a folder beside their place, and put there when they are whole."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from mda_writers.batch.crew import LostWorkersError
from mda_writers.batch.process_record import RECORD_SUFFIX, ProcessRecord, sizes_of
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.names import OwnNames
from mda_writers.recording.replaced import find_existing
from mda_writers.sinks.seal import is_intact, sealed
from mda_writers.sinks.sidecar import recording_path
from mda_writers.storage.atomic import replace_bytes
from mda_writers.storage.lock import FileLock
from mda_writers.writers.existing import check_is_recording, remove_existing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class WorkFolder:
    """The folder in which a result is made: ``.<name>.making`` beside it.

    Made whole, a result is *sealed*: its record is in the folder. From then on it is only put in
    place, which a process that is killed meanwhile leaves for the next one to complete.

    Parameters
    ----------
    output : Path
        Where the result goes.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.making")
        self.result = self.folder / "result" / output.name
        self.parts = self.folder / "parts"
        self._lock_file = self.folder / "lock"
        self._sealed = self.folder / "sealed.json"
        self._room_made = self.folder / "room_made"

    @contextmanager
    def held(self, *, overwrite: bool = False) -> Iterator[None]:
        """Keep others from it for the block; complete first what a killed process had sealed.

        Afterwards nothing is left but the result; and parts, if they can be gone on with.

        Raises
        ------
        BlockingIOError
            If another process is making the same result.
        FileExistsError
            See `place`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file.touch()
        lock, to_go_on = self._lock(), False
        try:
            if self._sealed.exists():
                self.place(overwrite=overwrite)
            yield
        except (KeyboardInterrupt, LostWorkersError):
            to_go_on = self.parts.exists()
            raise
        finally:
            if lock is not None and sys.platform == "win32":
                lock.release()  # no file that is open is removed there
            if not (self._sealed.exists() or to_go_on):
                shutil.rmtree(self.folder, ignore_errors=True)
            if lock is not None:
                lock.release()

    def clear(self, plan: bytes = b"") -> None:
        """Begin anew, without what a killed process left.

        With a plan of parts, those stay that were made after the same one.
        """
        self._room_made.unlink(missing_ok=True)
        told = self.parts / "plan.json"
        if not (plan and told.exists() and told.read_bytes() == plan):
            shutil.rmtree(self.result.parent, ignore_errors=True)
            shutil.rmtree(self.parts, ignore_errors=True)
        self.result.parent.mkdir(exist_ok=True)
        if plan:
            self.parts.mkdir(exist_ok=True)
            replace_bytes(told, plan)

    def seal(self, record: ProcessRecord) -> ProcessRecord:
        """Say that the result is whole; return its record, which names its files."""
        self._tell_its_place()
        record = replace(record, outputs=sizes_of(self._made()))
        record.write(self._sealed)
        return record

    def place(self, *, overwrite: bool = False) -> None:
        """Put a sealed result in place; its record comes last.

        Raises
        ------
        FileExistsError
            If there is something else in the place of one of its files.
        """
        if not self._room_made.exists():
            if overwrite:
                remove_result(self.output)
            self._check_room()
            self._room_made.touch()
        for path in self._made():
            path.replace(self.output.parent / path.name)
        self._sealed.replace(record_path(self.output))

    def _check_room(self) -> None:
        for path in self._made():
            target = self.output.parent / path.name
            if target.exists() or target.is_symlink():
                self._sealed.unlink()  # what was made can be made again
                raise FileExistsError(_taken(target))

    def _made(self) -> list[Path]:
        """Return the files of the result, what describes them last."""
        beside = f"{self.output.name}_"
        return sorted(
            self.result.parent.iterdir(), key=lambda p: (p.name.startswith(beside), p.name)
        )

    def _tell_its_place(self) -> None:
        """Have the report of a recording name its files where they will be."""
        report = recording_path(self.result)
        if not report.exists():
            return
        here, there = str(self.result.parent), str(self.output.parent)
        text = report.read_bytes()
        if not is_intact(text.rstrip()):  # it is sealed anew below: that must not hide anything
            raise CorruptRecordingError(f"{report}: altered since it was written. Try again.")
        content = orjson.loads(text)
        content.pop("seal", None)
        told = content["report"]
        told["path"] = there + told["path"].removeprefix(here)
        told["paths"] = [there + path.removeprefix(here) for path in told["paths"]]
        replace_bytes(report, sealed(orjson.dumps(content)) + b"\n")

    def _lock(self) -> FileLock | None:
        try:
            return FileLock(self._lock_file)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"{self.output}: being made by another process. Wait for that one."
            ) from error
        except OSError:
            return None  # a file system without locks


def record_path(output: Path) -> Path:
    """Return where the record of a result is."""
    return output.with_name(output.name + RECORD_SUFFIX)


def check_free(output: Path) -> None:
    """Refuse a name that is taken.

    Raises
    ------
    FileExistsError
        If there is a result, or anything else, of that name.
    """
    record = ProcessRecord.read(record_path(output))
    before = [output.parent / name for name in record.outputs] if record else []
    for path in (*find_existing(output), *before):
        if path.exists() or path.is_symlink():
            raise FileExistsError(_taken(path))


def check_replaceable(output: Path) -> None:
    """Refuse to replace a folder that is neither a result nor a recording.

    Raises
    ------
    FileExistsError
        If it is somebody else's.
    """
    if output.is_dir() and ProcessRecord.read(record_path(output)) is None:
        check_is_recording(output)


def remove_result(output: Path) -> None:
    """Remove a result with all of its files, its record first."""
    check_replaceable(output)
    record = ProcessRecord.read(record_path(output))
    names = OwnNames(output.name, output)  # a record is to be trusted no more than other metadata
    files = [output.parent / names.now(name) for name in (record.outputs if record else ())]
    record_path(output).unlink(missing_ok=True)
    remove_existing(output)
    for path in files:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _taken(path: Path) -> str:
    return (
        f"{path}: exists, and is not what would be made now: other inputs, parameters or another "
        "version. Nothing was changed; choose another name, or pass overwrite=True (--overwrite)."
    )
