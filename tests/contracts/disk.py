"""Full disks and slow ones: nothing is lost that was on disk, memory is bounded, and it is told."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import useq

from children import out_of_disk
from contracts.crash import files_in
from contracts.doubles import CountingEngine, slow
from contracts.kind import Kind, on_record
from mda_writers import DiskFullError, WriteError, pymmcore, record
from mda_writers.errors import BacklogError
from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymmcore_plus import CMMCorePlus

DISK_BYTES = 8 << 20
FRAME = (128, 128)  # 32 KiB: the disk holds 256 of them
FRAME_BYTES = 128 * 128 * 2


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a real file system of a few megabytes; skip the test where that is not allowed."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mounting a small disk takes Linux")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no right to mount a small disk here ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # even if a test left it busy


def loops(n: int) -> useq.MDASequence:
    return useq.MDASequence(time_plan={"interval": 0, "loops": n})


class FullDiskContract(Kind):
    """Contract 2: a full disk."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        with small_disk(tmp_path / "disk") as folder:
            yield folder

    def test_plan_larger_than_the_disk_is_refused_before_the_first_exposure(
        self, core: CMMCorePlus, disk: Path
    ) -> None:
        engine = CountingEngine(core, frame_shape=FRAME)
        core.mda.set_engine(engine)
        folder = disk / "new" / "folders"
        with pytest.raises(DiskFullError, match=r"free, .* needed for 300 frames"):
            record(core, loops(300), self.make_writer(folder), progress=False)
        assert engine.given == 0
        assert list(disk.iterdir()) == []
        writer = self.make_writer(folder, core=core)
        core.run_mda(loops(300), output=writer, block=True)
        with pytest.raises(DiskFullError):
            writer.result()
        assert list(disk.iterdir()) == []
        with pytest.raises(DiskFullError):
            writer.begin(*FRAME, is_color=False, dtype="uint16", sizes={"t": 300})
        assert list(disk.iterdir()) == []

    def test_room_that_is_taken_while_files_are_laid_out_leaves_nothing_behind(
        self, disk: Path
    ) -> None:
        writer = self.make_writer(disk, min_free_bytes=0)
        (disk / "other").write_bytes(bytes(DISK_BYTES - 30 * FRAME_BYTES))
        with pytest.raises(DiskFullError):
            writer.begin(*FRAME, is_color=False, dtype="uint16", sizes={"p": 2, "t": 15})
        assert files_in(disk) == ["other"]

    def test_plan_that_fits_is_written(self, core: CMMCorePlus, disk: Path) -> None:
        core.mda.set_engine(CountingEngine(core, frame_shape=FRAME))
        (report,) = record(core, loops(190), self.make_writer(disk), progress=False)
        assert report.complete

    @pytest.mark.parametrize("mode", ["record", "output", "with", "connected"])
    def test_disk_that_fills_up_keeps_earlier_frames(
        self, mode: str, core: CMMCorePlus, disk: Path
    ) -> None:
        engine = CountingEngine(core, frame_shape=FRAME)
        core.mda.set_engine(engine)
        events = list(loops(2000))  # a list of events has no known length
        writer = self.make_writer(disk, core=core, queue_bytes=10 * FRAME_BYTES)
        with pytest.raises(DiskFullError, match="free"):
            if mode == "record":
                record(core, events, writer, progress=False)
            elif mode == "output":
                core.run_mda(events, output=writer, block=True)
                writer.result()
            elif mode == "with":
                with writer:
                    core.run_mda(events, output=writer, block=True)
            else:
                with writer.connected(core):
                    core.mda.run(events)
        assert isinstance(writer.error, DiskFullError)
        frames = self.check_frames(disk)
        assert len(frames) == writer.frames_written > 150
        assert [frame.ours["number"] for frame in frames] == list(range(len(frames)))
        if mode in ("record", "connected"):  # a relay may be far behind the camera
            assert engine.given < 2000

    def test_direct_mode_raises_where_the_disk_fills_up(self, disk: Path) -> None:
        writer = self.make_writer(disk, queue_bytes=10 * FRAME_BYTES)
        writer.begin(*FRAME)
        with pytest.raises(DiskFullError):
            for t in range(2000):
                writer.add_frame(stamp({"t": t}, FRAME, "uint16"))
        with pytest.raises(DiskFullError):
            writer.finish()
        assert len(self.check_frames(disk)) > 150
        for file in disk.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        writer.begin(*FRAME)  # the same writer, when there is room again
        writer.add_frame(stamp({"t": 0}, FRAME, "uint16"))
        assert writer.finish().complete

    def test_min_free_bytes_stay_free(self, disk: Path) -> None:
        writer = self.make_writer(disk, min_free_bytes=3 << 20, queue_bytes=10 * FRAME_BYTES)
        writer.begin(*FRAME)
        with pytest.raises(DiskFullError, match=r"3\.1 MB are to stay free"):
            for t in range(2000):
                writer.add_frame(stamp({"t": t}, FRAME, "uint16"))
                assert psutil.disk_usage(str(disk)).free > 1.5 * (1 << 20)
        with pytest.raises(DiskFullError):
            writer.finish()
        assert psutil.disk_usage(str(disk)).free >= 3 << 20
        assert len(self.check_frames(disk)) > 80

    def test_disk_filled_by_somebody_else_keeps_earlier_frames(self, disk: Path) -> None:
        writer = self.make_writer(disk)
        writer.begin(32, 32, is_color=False, dtype="uint16", sizes={"t": 1500})
        with pytest.raises(DiskFullError):
            for t in range(1500):
                writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
                if t == 20:
                    writer.isel(t=0)  # returns when all of them are on disk
                    fill(disk / "somebody")
            writer.finish()
        (disk / "somebody").unlink()
        with pytest.raises(DiskFullError):
            writer.finish()
        assert len(self.check_frames(disk)) >= 20

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no RLIMIT_FSIZE")
    @pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
    def test_file_size_limit_is_a_full_disk(self, planned: bool, tmp_path: Path) -> None:
        error, written = run_out_of_disk(self, tmp_path, planned)
        assert error == "DiskFullError"
        if planned:
            assert (written, files_in(tmp_path)) == (0, [])
        else:
            assert len(self.check_frames(tmp_path)) == written > 0


def run_out_of_disk(kind: Kind, folder: Path, planned: bool) -> tuple[str, int]:
    """Record in a process whose files may not grow; return its error, and the frames written."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    writer = f"{kind.writer_class.__module__}:{kind.writer_class.__name__}"
    arguments = (writer, folder / kind.file_name, planned, theirs)
    child = context.Process(target=out_of_disk.run, args=arguments)
    child.start()
    assert ours.poll(30)
    error, written = ours.recv()
    child.join()
    assert child.exitcode == 0
    child.close()
    ours.close()
    theirs.close()
    return error, written


class SlowDiskContract(Kind):
    """Contract 4: memory is bounded, however slow the disk."""

    def slow_writer(self, folder: Path, seconds: float, **options: Any) -> Any:
        return slow(self.writer_class, seconds)(folder / self.file_name, **options)

    @pytest.mark.parametrize(
        ("frames", "seconds"), [(40, 0.02), pytest.param(40, 0.4, marks=pytest.mark.soak)]
    )
    def test_slow_disk_holds_the_camera_back(
        self, frames: int, seconds: float, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        engine = CountingEngine(core, frame_shape=(512, 512))
        core.mda.set_engine(engine)
        writer = self.slow_writer(tmp_path, seconds, queue_bytes=10 * 512 * 512 * 2)
        (report,) = record(core, loops(frames), writer, progress=False)
        assert (report.complete, report.frames_written) == (True, frames)
        assert engine.most_alive <= 11  # 10 in the queue, and the one that waits to get in
        assert report.interval_ms_max is not None

    def test_frames_are_let_go_of_one_by_one(self, core: CMMCorePlus, tmp_path: Path) -> None:
        """Small frames are taken off the account together; they must not be held together."""
        engine = CountingEngine(core)
        core.mda.set_engine(engine)
        writer = self.slow_writer(tmp_path, 0.001, queue_bytes=100 * 32 * 32 * 2)
        (report,) = record(core, loops(500), writer, progress=False)
        assert report.complete
        assert engine.most_alive <= 110

    def test_output_backlog_is_bounded(
        self, core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With output=, frames wait in a queue of upstream's: too many, and the run ends, loudly.

        The limit is a share of the machine's memory; here it is made that of 60 frames.
        """
        wanted = 60 * FRAME_BYTES / psutil.virtual_memory().available
        monkeypatch.setattr(pymmcore, "BACKLOG_SHARE", wanted)
        engine = CountingEngine(core, frame_shape=FRAME, on_frame=lambda n: None)
        core.mda.set_engine(engine)
        writer = self.slow_writer(tmp_path, 0.005, core=core, queue_bytes=10 * FRAME_BYTES)
        core.run_mda(loops(20_000), output=writer, block=True)
        with pytest.raises(BacklogError, match=r"Use record\(\)"):
            writer.result()
        assert engine.given < 2000
        assert len(self.check_frames_of(tmp_path)) == engine.given
        with pytest.raises(WriteError):
            writer.close()

    def check_frames_of(self, folder: Path) -> list[Any]:
        return on_record(folder / self.file_name)


def fill(path: Path) -> None:
    """Take all the room that there is."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    os.write(file.fileno(), np.zeros(size, np.uint8).data)
            except OSError:
                continue
