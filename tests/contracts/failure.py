"""A failing writer harms no other one, and is never silent."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import useq

from contracts.crash import files_in
from contracts.doubles import CountingEngine, failing, failing_to_begin
from contracts.kind import Kind
from mda_writers import WriteError, record
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

FAILS_AT = 10
HUNDRED = useq.MDASequence(time_plan={"interval": 0.02, "loops": 100})


class Healthy:
    """Another handler of the same run: keeps all that it is given."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []
        self.finished = 0
        self.canceled = 0

    def frameReady(self, frame: np.ndarray, event: Any, meta: Any) -> None:
        self.frames.append(frame)

    def sequenceCanceled(self, seq: Any) -> None:
        self.canceled += 1

    def sequenceFinished(self, seq: Any) -> None:
        self.finished += 1


class FailureContract(Kind):
    """Contract 3: a failing writer."""

    def failing_writer(self, folder: Path, **options: Any) -> Any:
        return failing(self.writer_class, FAILS_AT)(folder / self.file_name, **options)

    def check_kept(self, folder: Path) -> None:
        frames = self.check_frames(folder)
        assert [frame.index for frame in frames] == [{"t": t} for t in range(FAILS_AT)]

    def test_output_other_handlers_get_every_frame(self, core: CMMCorePlus, tmp_path: Path) -> None:
        # slow enough for the relay to be told of the failure before the last frame
        engine = CountingEngine(core, on_frame=lambda n: time.sleep(0.01))
        core.mda.set_engine(engine)
        bad = self.failing_writer(tmp_path / "bad", core=core)
        good, other = self.make_writer(tmp_path / "good"), Healthy()
        core.run_mda(HUNDRED, output=[bad, good, other], block=True)
        with pytest.raises(WriteError, match="told to fail at frame 10"):
            bad.result()
        self.check_kept(tmp_path / "bad")
        self.check_others(engine, good, other, tmp_path / "good")

    def test_connected_other_handlers_get_every_frame(
        self, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        engine = CountingEngine(core)
        core.mda.set_engine(engine)
        bad = self.failing_writer(tmp_path / "bad")
        good, other = self.make_writer(tmp_path / "good"), Healthy()
        for name in ("frameReady", "sequenceCanceled", "sequenceFinished"):
            getattr(core.mda.events, name).connect(getattr(other, name))
        with (
            pytest.raises(WriteError, match="told to fail at frame 10"),
            good.connected(core),
            bad.connected(core),
        ):
            core.mda.run(HUNDRED)
        self.check_kept(tmp_path / "bad")
        self.check_others(engine, good, other, tmp_path / "good")

    def test_record_raises_and_keeps_the_others(self, core: CMMCorePlus, tmp_path: Path) -> None:
        engine = CountingEngine(core)
        core.mda.set_engine(engine)
        bad, good = self.failing_writer(tmp_path / "bad"), self.make_writer(tmp_path / "good")
        with pytest.raises(WriteError, match="told to fail at frame 10"):
            record(core, HUNDRED, [bad, good], progress=False)
        self.check_kept(tmp_path / "bad")
        self.check_others(engine, good, None, tmp_path / "good")

    def check_others(
        self, engine: CountingEngine, good: Any, other: Healthy | None, folder: Path
    ) -> None:
        """Check that the run was cancelled once, and all that was taken by then is there."""
        assert FAILS_AT < engine.given < 100
        report = good.result()
        assert report.frames_written == engine.given
        assert (report.canceled, report.complete) == (True, False)
        assert report.frames_missing == 100 - engine.given
        assert len(self.check_frames(folder)) == engine.given
        if other is not None:
            assert (other.canceled, other.finished) == (1, 1)
            for t, frame in enumerate(other.frames):
                check_stamp(frame, {"t": t})
            assert len(other.frames) == engine.given

    def test_with_block_raises(self, core: CMMCorePlus, tmp_path: Path) -> None:
        core.mda.set_engine(CountingEngine(core))
        with (
            pytest.raises(WriteError, match="told to fail"),
            self.failing_writer(tmp_path, core=core) as writer,
        ):
            core.run_mda(HUNDRED, output=writer, block=True)
        self.check_kept(tmp_path)

    def test_direct_mode_raises_at_the_latest_at_the_end(self, tmp_path: Path) -> None:
        writer = self.failing_writer(tmp_path)
        writer.begin(32, 32)
        with pytest.raises(WriteError, match="told to fail"):
            for t in range(100):
                writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
            writer.finish()
        for ending in (writer.finish, writer.result, writer.close):
            with pytest.raises(WriteError, match="told to fail"):
                ending()
        self.check_kept(tmp_path)

    def test_writer_that_cannot_begin_leaves_nothing_and_harms_nobody(
        self, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        engine = CountingEngine(core)
        core.mda.set_engine(engine)
        bad = failing_to_begin(self.writer_class)(tmp_path / "bad" / self.file_name, core=core)
        other = Healthy()
        core.run_mda(HUNDRED, output=[bad, other], block=True)
        with pytest.raises(WriteError, match="told to fail"):
            bad.result()
        assert files_in(tmp_path) == []
        assert len(other.frames) == engine.given < 100
        assert other.finished == 1

    def test_hooks_never_raise(self, core: CMMCorePlus, tmp_path: Path) -> None:
        frame = stamp({"t": 0}, (32, 32), "uint16")
        writer = self.make_writer(tmp_path, core=core)
        nonsense: list[Any] = [None, 7, "text", object(), {}, []]
        for thing in nonsense:
            writer.frameReady(thing, thing, thing)
            writer.eventStarted(thing)
            writer.sequenceCanceled(thing)
            writer.sequenceFinished(thing)
            writer.sequenceStarted(thing, thing)
            writer.frameReady(frame, thing, thing)
            writer.frameReady(thing, useq.MDAEvent(index={"t": 0}), {})
            writer.sequenceFinished(thing)
            with pytest.raises(WriteError):
                writer.result()

    def test_frame_that_does_not_fit_ends_the_recording_with_a_sentence(
        self, tmp_path: Path
    ) -> None:
        writer = self.make_writer(tmp_path)
        writer.sequenceStarted(HUNDRED, {})
        for t in range(FAILS_AT):
            frame = stamp({"t": t}, (32, 32), "uint16")
            writer.frameReady(frame, useq.MDAEvent(index={"t": t}), {})
        writer.frameReady(np.zeros((16, 16), "u1"), useq.MDAEvent(index={"t": 10}), {})
        writer.sequenceFinished(HUNDRED)
        with pytest.raises(WriteError, match=r"\(16, 16\) uint8, the recording holds \(32, 32\)"):
            writer.result()
        self.check_kept(tmp_path)

    def test_existing_files_of_others_are_not_touched(self, tmp_path: Path) -> None:
        writer = self.make_writer(tmp_path)
        writer.begin(32, 32, sizes={"p": 2})
        writer.add_frame(stamp({"p": 0}, (32, 32), "uint16"))
        writer.add_frame(stamp({"p": 1}, (32, 32), "uint16"))
        writer.finish()
        for file in tmp_path.glob(f"{self.file_name}_*"):
            file.unlink()  # only the images are left: their recording is no longer known
        before = {f: (tmp_path / f).read_bytes() for f in files_in(tmp_path)}
        second = self.writer_class(tmp_path / self.file_name, overwrite=True)
        with pytest.raises(WriteError, match="belongs to another recording"):
            second.begin(32, 32, is_color=False, dtype="uint16", sizes={"p": 2})
        assert {f: (tmp_path / f).read_bytes() for f in files_in(tmp_path)} == before

    def test_failure_is_the_same_from_every_thread(self, tmp_path: Path) -> None:
        """Cameras in several threads: each of them hears of the failure, and none waits forever."""
        writer = self.failing_writer(tmp_path, queue_bytes=4 * 32 * 32 * 2)
        writer.begin(32, 32)
        heard: list[str] = []

        def camera() -> None:
            try:
                for _ in range(1000):
                    writer.add_frame(np.zeros((32, 32), np.uint16))
            except WriteError as error:
                heard.append(str(error))

        threads = [threading.Thread(target=camera) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(heard) == 4
        assert all("told to fail" in text for text in heard)
        with pytest.raises(WriteError, match="told to fail"):
            writer.finish()
