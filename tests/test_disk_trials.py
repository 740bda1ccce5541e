"""Every file operation of a recording fails once, or is its last: nothing is lost, nothing is lied.

The short form takes some of the operations of each recording; `-m soak` takes all of them. What
was tried, and what it found, is in ``docs/reliability.md``.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tifffile

from contracts.kind import BigTiff, Kind, on_record
from contracts.series_kinds import TiffSeries
from contracts.video_kinds import Avi, Mkv, Mp4
from contracts.watched_disk import Fault, WatchedDisk, files_of, put_files
from contracts.zarr_kinds import OmeZarr
from mda_writers import WriteError, recover, verify
from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contracts.watched_disk import Moment
    from mda_writers.writers.base import MDAWriter

pytestmark = pytest.mark.usefixtures("no_thread_left")

YX = (64, 64)  # two blocks: the direct path is taken
PLAN = {"t": 2, "p": 2, "z": 2}


class CompressedTiff(BigTiff):
    """A compressed OME-TIFF, which gets its description at the end."""

    def check_opens(self, folder: Path, file: str) -> None:
        with tifffile.TiffFile(folder / file) as tif:
            assert tif.is_bigtiff and tif.series


class PlainTiff(CompressedTiff):
    """A BigTIFF without OME-XML."""

    file_name = "exp.tif"


@dataclass(frozen=True)
class Recording:
    """A recording to try: what it is written with, and how it goes.

    Attributes
    ----------
    kind : Kind
        The format, and its stock reader.
    options : dict
        For the writer.
    sizes : dict or None
        For ``begin``.
    frames : int
        How many are taken.
    before : str
        What is there already: ``""``, ``"second run"`` (of the same writer), ``"overwrite"``.
    """

    kind: Kind
    options: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] | None = field(default_factory=lambda: dict(PLAN))
    frames: int = 8
    before: str = ""

    @property
    def name(self) -> str:
        """Return the name of the recording's own file."""
        if self.before != "second run":
            return self.kind.file_name
        if self.kind.file_name == "run_000":
            return "run_001"
        stem, _, suffix = self.kind.file_name.partition(".")
        return f"{stem}_1.{suffix}"

    def prepare(self, folder: Path) -> MDAWriter:
        """Return the writer, with what is there before its last run."""
        if self.before == "overwrite":
            take(self.kind.make_writer(folder), {"t": 3}, 3)
        options = dict(self.options)
        if self.before == "overwrite":
            options["overwrite"] = True
        writer = self.kind.make_writer(folder, **options)
        if self.before == "second run":
            take(writer, {"t": 3}, 3)
        return writer

    def take(self, writer: MDAWriter) -> None:
        take(writer, self.sizes, self.frames)


def take(writer: MDAWriter, sizes: dict[str, int] | None, frames: int) -> None:
    """Take some frames of a plan, with a rest in the middle."""
    writer.begin(*YX, is_color=False, dtype="uint16", sizes=sizes, channels=())
    places = list(np.ndindex(*sizes.values())) if sizes else [(t,) for t in range(frames)]
    for number, place in enumerate(places[:frames]):
        index = dict(zip(sizes or {"t": 0}, place, strict=True))
        writer.add_frame(stamp(index, YX, "uint16"), index=index, metadata={"number": number})
        if number in (0, 4):
            writer._run.settle()  # type: ignore[union-attr]
    writer.finish({"end": "ordinary"})


def kinds() -> dict[str, tuple[Kind, dict[str, Any]]]:
    zarr04 = {"ngff_version": "0.4"}
    return {
        "ome-tiff": (BigTiff(), {}),
        "ome-tiff-zlib": (CompressedTiff(), {"compression": "zlib"}),
        "tiff": (PlainTiff(), {}),
        "tiff-zlib": (PlainTiff(), {"compression": "zlib"}),
        "series": (TiffSeries(), {}),
        "zarr05": (OmeZarr(), {}),
        "zarr05-lz4": (OmeZarr(), {"compression": "blosc-lz4"}),
        "zarr05-levels": (OmeZarr(), {"levels": 2}),
        "zarr05-lz4-levels": (OmeZarr(), {"compression": "blosc-lz4", "levels": 2}),
        "zarr05-levels-in-z": (OmeZarr(), {"levels": 2, "z_factor": 2}),
        "zarr04": (OmeZarr(), zarr04),
        "zarr04-lz4-levels": (OmeZarr(), {**zarr04, "compression": "blosc-lz4", "levels": 2}),
        "zarr04-levels-in-z": (OmeZarr(), {**zarr04, "levels": 2, "z_factor": 2}),
        "mkv": (Mkv(), {}),
        "mp4": (Mp4(), {}),
        "avi": (Avi(), {}),
    }


def recordings() -> dict[str, Recording]:
    """Return every format in every way."""
    found = {}
    for name, (kind, options) in kinds().items():
        found[name] = Recording(kind, options)
        found[f"{name}, cut short"] = Recording(kind, options, frames=5)
        found[f"{name}, open"] = Recording(kind, options, sizes=None, frames=5)
        projected = {**options, "max_projection": True}
        found[f"{name}, projections"] = Recording(kind, projected, {"t": 2, "z": 2}, 4)
        found[f"{name}, second run"] = Recording(kind, options, before="second run")
        if name != "series":  # which overwrites nothing
            found[f"{name}, overwrite"] = Recording(kind, options, before="overwrite")
    return found


RECORDINGS = recordings()
EVERY = pytest.mark.parametrize("name", RECORDINGS)


def short_form() -> list[str]:
    """Return two ways of each format, others for the next one."""
    named: dict[str, list[str]] = {}
    for name in RECORDINGS:
        named.setdefault(name.partition(",")[0], []).append(name)
    chosen = {ways[(n + m) % len(ways)] for n, ways in enumerate(named.values()) for m in (0, 3)}
    return [name for name in RECORDINGS if name in chosen and "overwrite" not in name]


SOME = pytest.mark.parametrize("name", short_form())


def some(things: Sequence[Any], most: int, seed: str) -> list[Any]:
    """Return at most so many of them, spread over all, and others for another seed."""
    step = -(-len(things) // most)
    first = sum(seed.encode()) % step if step else 0
    return list(things[first :: step or 1])


# ---------------------------------------------------------------- kills and power cuts


@SOME
def test_killed_at_some_operations(name: str, tmp_path: Path) -> None:
    trial = Trial(name, tmp_path)
    states = trial.states("killed")
    for moment, files in some(states, 4, name):
        trial.check_interrupted(moment, files)


@pytest.mark.soak
@EVERY
def test_killed_at_every_operation(name: str, tmp_path: Path) -> None:
    trial = Trial(name, tmp_path)
    for moment, files in trial.states("killed"):
        trial.check_interrupted(moment, files)


@SOME
def test_killed_at_some_operations_of_recover(name: str, tmp_path: Path) -> None:
    trial = Trial(name, tmp_path)
    for moment, files in some(trial.states("killed")[:-1], 1, name):
        trial.check_interrupted_recover(moment, files, most=4)


@pytest.mark.soak
@EVERY
def test_killed_at_every_operation_of_recover(name: str, tmp_path: Path) -> None:
    trial = Trial(name, tmp_path)
    for moment, files in some(trial.states("killed"), 12, name):
        trial.check_interrupted_recover(moment, files, most=1000)


@SOME
def test_power_cut_at_some_operations(name: str, tmp_path: Path) -> None:
    trial = Trial(name, tmp_path, sync_ms=0.001)
    for which in ("powerless", "named"):
        for moment, files in some(trial.states(which), 3, name):
            trial.check_interrupted(moment, files)
    trial.check_end()


@pytest.mark.soak
@EVERY
def test_power_cut_at_every_operation(name: str, tmp_path: Path) -> None:
    trial = Trial(name, tmp_path, sync_ms=0.001)
    for which in ("powerless", "named"):
        for moment, files in trial.states(which):
            trial.check_interrupted(moment, files)
    trial.check_end()


@SOME
def test_what_finish_has_returned_for_survives_a_power_cut(name: str, tmp_path: Path) -> None:
    Trial(name, tmp_path).check_end()


class Trial:
    """One recording on a watched disk, and what there is at each of its operations."""

    def __init__(self, name: str, folder: Path, **options: Any) -> None:
        self.recording = RECORDINGS[name]
        self._folder = folder
        self._numbers = count()
        origin = folder / "origin"
        origin.mkdir()
        given = {**self.recording.options, **options}
        recording = Recording(
            self.recording.kind,
            given,
            self.recording.sizes,
            self.recording.frames,
            self.recording.before,
        )
        writer = recording.prepare(origin)
        with WatchedDisk(origin) as disk:
            recording.take(writer)
            self.moments: list[Moment] = [*disk.moments, disk.now()]

    def states(self, which: str) -> list[tuple[str, dict[str, bytes | None]]]:
        """Return what is on the disk at each operation, each state once."""
        found: list[tuple[str, dict[str, bytes | None]]] = []
        for moment in self.moments:
            files = getattr(moment, which)
            if not found or files != found[-1][1]:
                found.append((f"{which} at {moment.operation}", files))
        return found

    def check_end(self) -> None:
        """Check that everything is there as it was, though the power went after ``finish``."""
        moment = self.moments[-1]
        for files in (moment.powerless, moment.named):
            lacking = {name for name in moment.killed if files.get(name) != moment.killed[name]}
            assert not lacking, "not synced"
            assert set(files) == set(moment.killed), "names that are gone come back"

    def check_interrupted(self, moment: str, files: dict[str, bytes | None]) -> None:
        """Check what a recorder left, recover it, check again."""
        with self._put(files) as folder, telling(moment):
            self._check(folder)

    def check_interrupted_recover(
        self, moment: str, files: dict[str, bytes | None], most: int
    ) -> None:
        """Interrupt ``recover`` at its operations; what is left has to come to the same end."""
        with self._put(files) as folder:
            if not has_header(folder / self.recording.name):
                return
            kept = len(on_record(folder / self.recording.name))
            with WatchedDisk(folder) as disk:
                recover(folder / self.recording.name)
        for within in some(disk.moments, most, moment):
            with (
                self._put(within.killed) as folder,
                telling(f"{moment}, then recover killed at {within.operation}"),
            ):
                assert len(on_record(folder / self.recording.name)) == kept
                self._check(folder)

    def _check(self, folder: Path) -> None:
        recording, path = self.recording, folder / self.recording.name
        if recording.before == "second run":
            assert verify(folder / recording.kind.file_name, progress=False).ok
        if recording.before == "overwrite":  # whoever opens it settles which of the two it is
            recover(path)
        frames = recording.kind.check_frames(folder, recording.name)
        check_projections(folder)
        if not has_header(path):
            assert not frames
            assert recording.before != "overwrite", "neither the old recording nor the new one"
            return
        report = recover(path)
        assert report.frames_written == len(frames)
        after = recording.kind.check_frames(folder, recording.name)
        assert [frame.metadata for frame in after] == [frame.metadata for frame in frames]
        shown = verify(path, progress=False)
        assert shown.intact, str(shown)
        check_projections(folder)
        assert recover(path) == report
        torn = [file for file in files_of(folder) if is_torn(file)]
        assert not torn, "left behind"

    def _put(self, files: dict[str, bytes | None]) -> Any:
        return _folder(self._folder / str(next(self._numbers)), files)


class _folder:  # noqa: N801 - a block
    def __init__(self, path: Path, files: dict[str, bytes | None]) -> None:
        self._path, self._files = path, files

    def __enter__(self) -> Path:
        put_files(self._path, {_of_the_dead(name): what for name, what in self._files.items()})
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)


def _of_the_dead(file: str) -> str:
    """Return a name as another process would have given it, which was killed."""
    return file.replace(f".{os.getpid()}.tmp", ".99999999.tmp").replace(
        f"-{os.getpid()}-", "-99999999-"
    )


class telling:  # noqa: N801 - a block
    """Says at which moment an assertion failed."""

    def __init__(self, moment: str) -> None:
        self._moment = moment

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            error.add_note(self._moment)


def has_header(path: Path) -> bool:
    """Return whether there is a recording: its journal with a whole first line, or its report."""
    journal = path.with_name(path.name + "_frames.jsonl")
    if path.with_name(path.name + "_recording.json").exists():
        return True
    return journal.exists() and b"\n" in journal.read_bytes()


def is_torn(file: str) -> bool:
    name = file.rpartition("/")[2]
    return name.endswith((".tmp", ".partial")) or name.startswith(".direct-")


def check_projections(folder: Path) -> None:
    """Check that every projection that has its name can be read."""
    for file in folder.glob("*_projections*/P*.ome.tiff"):
        assert tifffile.imread(file, is_ome=False).shape == YX, file.name


# ---------------------------------------------------------------- errors


FAULTS = ["EIO", "ENOSPC", "half", "short", "dead"]


@SOME
def test_an_operation_that_fails_is_raised_and_breaks_nothing_else(
    name: str, tmp_path: Path
) -> None:
    operations = count_operations(name, tmp_path)
    for how in FAULTS:
        for number in some(range(operations), 1, name + how):
            try_fault(name, tmp_path, Fault(number, how))


@pytest.mark.soak
@pytest.mark.parametrize("how", FAULTS)
@EVERY
def test_any_operation_that_fails_is_raised_and_breaks_nothing_else(
    name: str, how: str, tmp_path: Path
) -> None:
    for number in range(count_operations(name, tmp_path) + 5):
        try_fault(name, tmp_path, Fault(number, how))


def count_operations(name: str, tmp_path: Path) -> int:
    folder = tmp_path / "counted"
    folder.mkdir()
    writer = RECORDINGS[name].prepare(folder)
    with WatchedDisk(folder, keep=False) as disk:
        RECORDINGS[name].take(writer)
    shutil.rmtree(folder)
    return disk.operations


def try_fault(name: str, tmp_path: Path, fault: Fault) -> None:
    recording = RECORDINGS[name]
    folder = tmp_path / f"{fault.how}{fault.at}"
    folder.mkdir()
    writer = recording.prepare(folder)
    before, descriptors = set(files_of(folder)), open_files(folder)
    raised: BaseException | None = None
    began = False
    with WatchedDisk(folder, fault, keep=False) as disk:
        try:
            recording.take(writer)
        except WriteError as error:
            raised, began = (
                error,
                writer._run is not None and writer._run.path.name == (recording.name),
            )
            with suppress(WriteError):
                writer.close()
    with telling(f"{fault.how} at {disk.struck or fault.at}, {raised!r}"):
        assert open_files(folder) == descriptors, "left open"
        check_after_fault(recording, folder, writer, raised if disk.struck else None, disk.struck)
        if raised is not None and not began and fault.how != "dead":
            assert set(files_of(folder)) == before, (
                "a recording that could not begin left something"
            )
    shutil.rmtree(folder)


def check_after_fault(
    recording: Recording, folder: Path, writer: Any, raised: BaseException | None, struck: str
) -> None:
    path = folder / recording.name
    frames = recording.kind.check_frames(folder, recording.name)
    check_projections(folder)
    if raised is None:
        assert len(frames) == recording.frames, "frames are lost, and nothing was raised"
        assert writer.error is None
        assert not path.with_name(path.name + "_frames.jsonl").exists()
    elif writer._run is not None and writer._run.path == path:
        assert writer.frames_written == len(frames), "counted is not what is there"
    if not has_header(path):
        return
    report = recover(path)
    assert report.frames_written == len(frames)
    after = recording.kind.check_frames(folder, recording.name)
    assert [frame.metadata for frame in after] == [frame.metadata for frame in frames]
    shown = verify(path, progress=False)
    assert shown.intact, str(shown)
    # what tries a folder out is known by its process, which lives here
    torn = [file for file in files_of(folder) if is_torn(file) and ".direct-" not in file]
    assert not torn, "left behind"


def open_files(folder: Path) -> set[str]:
    """Return the files of a folder that this process has open."""
    return {
        file.path
        for file in psutil.Process().open_files()
        if Path(file.path).is_relative_to(folder)
    }
