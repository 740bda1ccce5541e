"""One writer for many runs, and every way in which a run can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import useq

from contracts.kind import Kind, on_record, report_on_disk
from engine import EngineError, StampedEngine
from mda_writers import WriteError, record, recover
from stamps import stamp

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

TEN = useq.MDASequence(time_plan={"interval": 0, "loops": 10})
CHILDREN = Path(__file__).parent.parent / "children"
EXIT = CHILDREN / "exit_early.py"
NO_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() here")
NO_SIGINT = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to itself")


class RaisingHandler:
    """Kills the relay thread of its run, as any handler can."""

    def __init__(self, at: int) -> None:
        self.left = at

    def frameReady(self, frame: Any, event: Any, meta: Any) -> None:
        self.left -= 1
        if not self.left:
            raise RuntimeError("a handler of somebody else")


class LifecycleContract(Kind):
    """Reuse, and ends of all kinds."""

    @property
    def second_name(self) -> str:
        stem, dot, suffix = self.file_name.partition(".")
        return f"{stem}_1{dot}{suffix}"

    def test_second_run_gets_the_next_name(self, core: CMMCorePlus, tmp_path: Path) -> None:
        core.mda.set_engine(StampedEngine(core))
        writer = self.make_writer(tmp_path)
        first = record(core, TEN, writer, progress=False)[0]
        core.run_mda(TEN, output=writer, block=True)
        second = writer.result()
        with writer.connected(core):
            core.mda.run(TEN)
        names = [Path(r.path).name for r in (first, second, writer.result())]
        assert names == [self.file_name, self.second_name, self.second_name.replace("_1", "_2")]
        for name in names:
            assert len(self.check_frames(tmp_path, name)) == 10
        writer.begin(32, 32)
        writer.add_frame(stamp({"t": 0}, (32, 32), "uint16"))
        assert Path(writer.finish().path).name == self.second_name.replace("_1", "_3")

    def test_existing_recording_is_refused_or_replaced(self, tmp_path: Path) -> None:
        for overwrite in (False, True):
            writer = self.make_writer(tmp_path, overwrite=overwrite)
            writer.begin(32, 32, sizes={"p": 2} if overwrite else None)
            writer.add_frame(stamp({"t": 0, "p": 0}, (32, 32), "uint16"), index={"p": 0})
            writer.finish()
            with pytest.raises(FileExistsError, match="overwrite=True"):
                self.make_writer(tmp_path)
        assert len(on_record(tmp_path / self.file_name)) == 1

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_lost_end_of_the_sequence_is_noticed(self, core: CMMCorePlus, tmp_path: Path) -> None:
        core.mda.set_engine(StampedEngine(core))
        writer = self.make_writer(tmp_path, core=core)
        core.run_mda(TEN, output=[writer, RaisingHandler(at=4)], block=True)
        with pytest.raises(WriteError, match="never announced"):
            writer.result()
        assert 4 <= len(self.check_frames(tmp_path)) < 10
        assert not report_on_disk(tmp_path / self.file_name)["complete"]
        core.run_mda(TEN, output=writer, block=True)
        assert writer.result().complete

    def test_next_sequence_closes_what_nobody_closed(self, tmp_path: Path) -> None:
        writer = self.make_writer(tmp_path)
        for _ in range(2):
            writer.sequenceStarted(TEN, {})
            for event in TEN:
                writer.frameReady(stamp(event.index, (32, 32), "uint16"), event, {})
        writer.sequenceFinished(TEN)
        assert writer.result().complete
        for name in (self.file_name, self.second_name):
            assert len(self.check_frames(tmp_path, name)) == 10
        assert "next sequence" in report_on_disk(tmp_path / self.file_name)["error"]

    @pytest.mark.parametrize("mode", ["record", "output"])
    def test_engine_that_raises_keeps_what_came_before(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        core.mda.set_engine(StampedEngine(core, fail_at=4))
        writer = self.make_writer(tmp_path, core=core)
        with pytest.raises(EngineError):
            if mode == "record":
                record(core, TEN, writer, progress=False)
            else:
                core.mda.run(TEN, output=writer)
        report = writer.result()
        assert (report.frames_written, report.complete) == (4, False)
        assert (report.skipped, report.missing) == ([], [{"t": t} for t in range(4, 10)])
        assert len(self.check_frames(tmp_path)) == 4

    def test_exception_in_a_with_block_ends_the_recording(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError, match="mine"), self.make_writer(tmp_path) as writer:
            writer.begin(32, 32)
            for t in range(5):
                writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
            raise KeyError("mine")
        assert not (tmp_path / f"{self.file_name}_frames.jsonl").exists()
        assert not report_on_disk(tmp_path / self.file_name)["complete"]

    @pytest.mark.parametrize("how", ["quietly", "exit", "exception", "thread"])
    def test_interpreter_that_exits_ends_the_recording(self, how: str, tmp_path: Path) -> None:
        writer = f"{self.writer_class.__module__}:{self.writer_class.__name__}"
        path = tmp_path / self.file_name
        command = [sys.executable, "-W", "error", str(EXIT), writer, str(path), how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == {"quietly": 0, "exit": 3, "exception": 1, "thread": 0}[how]
        assert ("Traceback" in done.stderr) is (how == "exception"), done.stderr
        assert [frame.index["t"] for frame in self.check_frames(tmp_path)] == list(range(20))
        report = report_on_disk(path)
        assert (report["complete"], report["frames_written"]) == (False, 20)
        assert "program ended" in report["error"]

    @property
    def dotted_writer(self) -> str:
        return f"{self.writer_class.__module__}:{self.writer_class.__name__}"

    @NO_SIGINT
    @pytest.mark.parametrize("how", ["finish", "close", "with"])
    def test_ctrl_c_during_the_end_is_raised_after_it(self, how: str, tmp_path: Path) -> None:
        path = tmp_path / self.file_name
        done = self.child("interrupted.py", path, "1", how)
        assert done.stdout.splitlines() == ["interrupted 20 None", "True"], done.stderr
        assert len(self.check_frames(tmp_path)) == 20
        assert report_on_disk(path)["complete"]

    @NO_SIGINT
    def test_second_ctrl_c_gives_up_and_leaves_a_recording_to_recover(self, tmp_path: Path) -> None:
        path = tmp_path / self.file_name
        started = time.monotonic()
        done = self.child("interrupted.py", path, "2", "finish")
        assert time.monotonic() - started < 20
        assert "mda-writers recover" in done.stdout, done.stderr
        before = len(on_record(path))
        assert 0 < before < 20
        assert recover(path).frames_written == before
        assert len(self.check_frames(tmp_path)) == before

    @NO_FORK
    @pytest.mark.parametrize("how", ["exits", "records"])
    def test_forked_child_leaves_the_recording_alone(self, how: str, tmp_path: Path) -> None:
        done = self.child("forking.py", tmp_path / self.file_name, how)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(self.check_frames(tmp_path)) == 20
        assert report_on_disk(tmp_path / self.file_name)["complete"]
        if how == "records":
            assert done.stdout.strip() == self.second_name
            assert len(self.check_frames(tmp_path, self.second_name)) == 1

    @NO_FORK
    def test_forked_child_that_outlives_its_parent_holds_no_lock(self, tmp_path: Path) -> None:
        path = tmp_path / self.file_name
        command = [sys.executable, CHILDREN / "forking.py", self.dotted_writer, path, "outlived"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"forked\n"
            with pytest.raises(WriteError, match="still being written"):
                recover(path)
            parent.send_signal(signal.SIGKILL)
            while parent.poll() is None:
                time.sleep(0.01)
            assert recover(path).frames_written > 0  # its child is still there
        assert self.check_frames(tmp_path)

    def child(self, script: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, CHILDREN / script, self.dotted_writer, path, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


class ThreadContract(Kind):
    """Frames from several threads."""

    @pytest.mark.parametrize("indexed", [True, False], ids=["with_index", "without_index"])
    def test_frames_from_several_threads_are_all_there(self, indexed: bool, tmp_path: Path) -> None:
        writer = self.make_writer(tmp_path, queue_bytes=20 * 32 * 32 * 2)
        writer.begin(32, 32, sizes={"t": 100, "c": 4})

        def camera(c: int) -> None:
            for t in range(100):
                index = {"t": t, "c": c}
                frame = stamp(index, (32, 32), "uint16")
                writer.add_frame(frame, index=index if indexed else None, metadata={"of": index})

        threads = [threading.Thread(target=camera, args=(c,)) for c in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.finish().complete
        frames = on_record(tmp_path / self.file_name)
        places = {(frame.index["t"], frame.index["c"]) for frame in frames}
        assert len(places) == len(frames) == 400
        if indexed:
            self.check_frames(tmp_path)
        read = self.reader(tmp_path)
        for frame in frames:  # pixels and metadata of one call stay together
            assert (read(frame.ours) == stamp(frame.metadata["of"], (32, 32), "uint16")).all()

    def test_frame_during_finish_is_written_or_refused(self, tmp_path: Path) -> None:
        for attempt in range(10):
            writer = self.make_writer(tmp_path / str(attempt), queue_bytes=4 * 32 * 32 * 2)
            writer.begin(32, 32)
            written: list[int] = []
            refused: list[str] = []

            def camera(
                writer: Any = writer, written: Any = written, refused: Any = refused
            ) -> None:
                try:
                    for number in range(100_000):
                        frame = stamp({"t": number}, (32, 32), "uint16")
                        writer.add_frame(frame, index={"t": number})
                        written.append(number)
                except WriteError as error:
                    refused.append(str(error))

            thread = threading.Thread(target=camera)
            thread.start()
            while not written:
                pass
            try:
                writer.finish()
            except WriteError as error:
                assert "ended while" in str(error)
            thread.join()
            assert len(refused) == 1
            frames = self.check_frames(tmp_path / str(attempt))
            assert [frame.index["t"] for frame in frames] == written

    def test_second_begin_while_one_is_open_is_refused(self, tmp_path: Path) -> None:
        writer = self.make_writer(tmp_path)
        writer.begin(32, 32)
        with pytest.raises(WriteError, match="still open"):
            writer.begin(32, 32)
        writer.add_frame(stamp({"t": 0}, (32, 32), "uint16"))
        assert writer.finish().frames_written == 1
        with pytest.raises(WriteError, match="no recording is open"):
            writer.add_frame(stamp({"t": 1}, (32, 32), "uint16"))


def add_until_refused(writer: Any, written: list[int], refused: list[str]) -> None:
    """Add frames as fast as can be, and note those that were taken."""
    try:
        for number in range(100_000):
            writer.add_frame(stamp({"t": number}, (32, 32), "uint16"), index={"t": number})
            written.append(number)
    except WriteError as error:
        refused.append(str(error))
