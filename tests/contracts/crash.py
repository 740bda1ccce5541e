"""Kill the process at any moment: what has a journal line is on disk; `recover` ends the rest."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from children import recorder
from contracts.kind import Kind, on_record, report_on_disk
from mda_writers import WriteError, recover, verify
from stamps import stamp

MODES = ["output", "connected", "direct"]
KILLS = 3
"""Recordings that are killed for each mode and kind of plan."""

PATIENCE_S = 30


def start(kind: Kind, folder: Path, mode: str, planned: bool) -> Any:
    """Start a recording in a process of its own; a server that has all imports forks it."""
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        # the server is not told our sys.path, and says nothing about what it could not import
        ours = [str(Path(recorder.__file__).parent.parent), *filter(None, sys.path)]
        os.environ["PYTHONPATH"] = os.pathsep.join(ours)
        context.set_forkserver_preload(["children.recorder"])
    writer = f"{kind.writer_class.__module__}:{kind.writer_class.__name__}"
    arguments = (writer, folder / kind.file_name, mode, planned, {})
    child = context.Process(target=recorder.run, args=arguments, daemon=True)
    child.start()
    return child


def killed(kind: Kind, folder: Path, mode: str, planned: bool, after_s: float) -> None:
    """Record, and kill the recorder `after_s` after its journal appeared."""
    child = start(kind, folder, mode, planned)
    journal = folder / f"{kind.file_name}_frames.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while not journal.exists() and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(after_s)
    child.kill()
    child.join()
    child.close()


class CrashContract(Kind):
    """Contract 1: kill the process at any moment."""

    @pytest.mark.sample(3)
    @pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
    @pytest.mark.parametrize("mode", MODES)
    def test_kill_at_any_moment_keeps_every_journalled_frame(
        self, mode: str, planned: bool, tmp_path: Path
    ) -> None:
        moments = random.Random(f"{mode}{planned}")  # spread over the first second
        found = []
        for attempt in range(KILLS):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            killed(self, folder, mode, planned, (attempt + moments.random()) / KILLS)
            found.append(self.check_interrupted(folder, mode))
        assert sum(found) > 0, "no recorder lived long enough to write a frame"

    @pytest.mark.soak
    @pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
    @pytest.mark.parametrize("mode", MODES)
    def test_hundred_kills(self, mode: str, planned: bool, tmp_path: Path) -> None:
        for attempt in range(100):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            killed(self, folder, mode, planned, random.uniform(0, 1.2))
            self.check_interrupted(folder, mode)

    def check_interrupted(self, folder: Path, mode: str) -> int:
        """Check what a killed recorder left, recover it, check again; return its frames."""
        path = folder / self.file_name
        before = self.check_frames(folder)
        journal = path.with_name(path.name + "_frames.jsonl")
        if not journal.exists():  # it had come to its end
            assert report_on_disk(path)["complete"]
            return len(before)
        if not journal.read_bytes().count(b"\n"):  # killed before its first line
            return 0
        for number, frame in enumerate(before):
            assert frame.ours["number"] == number
            if mode == "direct":
                assert frame.metadata["number"] == number
            else:
                assert frame.metadata["mda_event"]["index"] == frame.index
        # killed between its report and the removal of its journal, it is what it says it is
        has_ended = path.with_name(path.name + "_recording.json").exists()
        report = recover(path)
        assert (report.frames_written, report.complete) == (len(before), has_ended)
        after = self.check_frames(folder)
        assert [frame.metadata for frame in after] == [frame.metadata for frame in before]
        assert verify(path, progress=False).intact
        assert recover(path) == report
        return len(before)

    def test_recover_gives_the_files_of_a_normal_end(self, tmp_path: Path) -> None:
        for sizes in ({"t": 3, "p": 2, "c": 2}, {"t": 3}, None):
            ended, torn = tmp_path / f"ended{sizes}", tmp_path / f"torn{sizes}"
            ended.mkdir()
            writer = self.make_writer(ended)
            writer.begin(32, 32, sizes=sizes, pixel_size_um=0.5, metadata={"who": "me"})
            for t in range(3):
                writer.add_frame(stamp({"t": t}, (32, 32), "uint16"), metadata={"n": t})
            writer.isel(t=0)  # returns when all three are in their files
            shutil.copytree(ended, torn)
            normal, recovered = writer.finish(), recover(torn / self.file_name)
            assert files_in(torn) == files_in(ended)
            for file in files_in(ended):
                if not file.endswith("_recording.json"):
                    assert (torn / file).read_bytes() == (ended / file).read_bytes(), file
            assert recovered.missing == normal.missing
            assert recovered.frames_expected == normal.frames_expected
            assert recovered.frames_received == recovered.frames_written == 3
            assert (recovered.complete, recovered.canceled) == (False, False)
            assert report_on_disk(torn / self.file_name)["error"]

    def test_recover_by_any_file_of_the_recording(self, tmp_path: Path) -> None:
        origin = tmp_path / "origin"
        origin.mkdir()
        writer = self.make_writer(origin)
        writer.begin(32, 32, sizes={"t": 4, "p": 2})
        writer.add_frame(np.ones((32, 32), np.uint8), index={"p": 0, "t": 0})
        writer.add_frame(np.ones((32, 32), np.uint8), index={"p": 1, "t": 0})
        writer.isel(t=0)
        for number, file in enumerate(files_in(origin)):
            copy = shutil.copytree(origin, tmp_path / str(number))
            assert recover(copy / file).frames_written == 2
            assert verify(copy / file if (copy / file).exists() else copy / self.file_name).intact
        writer.finish()

    def test_recover_leaves_a_recording_alone_that_is_still_written(self, tmp_path: Path) -> None:
        writer = self.make_writer(tmp_path)
        writer.begin(32, 32)
        for t in range(5):
            writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
        writer.isel(t=0)
        before = {file: (tmp_path / file).stat().st_mtime_ns for file in files_in(tmp_path)}
        with pytest.raises(WriteError, match="still being written"):
            recover(tmp_path / self.file_name)
        assert {f: (tmp_path / f).stat().st_mtime_ns for f in files_in(tmp_path)} == before
        assert writer.finish().complete
        assert recover(tmp_path / self.file_name).complete

    def test_recover_of_another_process_is_refused_while_it_lives(self, tmp_path: Path) -> None:
        child = start(self, tmp_path, "direct", planned=False)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not on_record(tmp_path / self.file_name) and time.monotonic() < deadline:
                time.sleep(0.001)
            with pytest.raises(WriteError, match=f"process {child.pid} "):
                recover(tmp_path / self.file_name)
        finally:
            child.kill()
            child.join()
            child.close()
        assert recover(tmp_path / self.file_name).frames_written > 0

    def test_recording_without_frames_is_recovered_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "live").mkdir()
        writer = self.make_writer(tmp_path / "live")
        writer.begin(32, 32, is_color=False, dtype="uint8", sizes={"t": 4})
        torn = shutil.copytree(tmp_path / "live", tmp_path / "torn")
        writer.finish()
        report = recover(torn / self.file_name)
        assert (report.frames_written, report.frames_missing, report.complete) == (0, 4, False)
        assert files_in(torn) == files_in(tmp_path / "live")

    def test_nothing_to_recover_says_so(self, tmp_path: Path) -> None:
        for act in (recover, verify):
            with pytest.raises(FileNotFoundError, match="no recording"):
                act(tmp_path / self.file_name)


def files_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
