"""The report tells planned, written, skipped and missing frames apart; complete means complete."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import useq

from engine import StampedEngine
from mda_writers import record
from promises.kind import Kind, report_on_disk

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from mda_writers.model.report import RecordingReport

TEN = useq.MDASequence(time_plan={"interval": 0, "loops": 10})
MODES = ["record", "output"]


class TruthPromises(Kind):
    """Promise 7: the truth about a recording."""

    def acquired(
        self, core: CMMCorePlus, engine: Any, events: Any, folder: Path, mode: str
    ) -> RecordingReport:
        """Acquire, check what is on disk against the report, and return it."""
        core.mda.set_engine(engine)
        writer = self.make_writer(folder, core=core)
        if mode == "record":
            record(core, events, writer, progress=False)
        else:
            core.run_mda(events, output=writer, block=True)
        report = writer.result()
        assert len(self.check_frames(folder)) == report.frames_written == report.frames_received
        stored = report_on_disk(folder / self.file_name)
        assert stored == {name: getattr(report, name) for name in stored}
        assert all((folder / path).exists() for path in report.paths)
        return report

    @pytest.mark.parametrize("mode", MODES)
    def test_whole_run_is_complete(self, mode: str, core: CMMCorePlus, tmp_path: Path) -> None:
        report = self.acquired(core, StampedEngine(core), TEN, tmp_path, mode)
        assert report.complete
        assert (report.frames_expected, report.frames_written) == (10, 10)
        assert (report.skipped, report.missing, report.canceled) == ([], [], False)
        assert report.bytes_written == 10 * 32 * 32 * 2
        assert 0 < report.mb_per_s == pytest.approx(report.bytes_written / report.seconds / 1e6)
        assert report.interval_ms_median is not None and report.interval_ms_max is not None
        assert 0 < report.interval_ms_median <= report.interval_ms_max < 1000
        assert report.buffer_overflowed is False

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("skip", [{0, 3, 9}, set(range(10))], ids=["some", "all"])
    def test_skipped_frames_are_not_missing(
        self, skip: set[int], mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        report = self.acquired(core, StampedEngine(core, skip=skip), TEN, tmp_path, mode)
        assert sorted(i["t"] for i in report.skipped) == sorted(skip)
        assert (report.missing, report.frames_missing) == ([], 0)
        assert not report.complete

    def test_skipped_event_of_two_cameras_is_one(self, core: CMMCorePlus, tmp_path: Path) -> None:
        engine = StampedEngine(core, cameras=2, skip={3})
        report = self.acquired(core, engine, TEN, tmp_path, "record")
        assert (report.skipped, report.missing) == ([{"t": 3}], [])
        assert (report.frames_expected, report.frames_written) == (20, 18)

    @pytest.mark.parametrize("mode", MODES)
    def test_frames_after_a_cancel_are_missing(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        def on_frame(number: int) -> None:
            if number == 5:
                core.mda.cancel()

        engine = StampedEngine(core, on_frame=on_frame)
        report = self.acquired(core, engine, TEN, tmp_path, mode)
        assert (report.canceled, report.complete) == (True, False)
        assert (report.skipped, report.missing) == ([], [{"t": t} for t in range(6, 10)])
        assert (report.frames_written, report.frames_missing) == (6, 4)

    def test_cancel_and_skip_are_told_apart(self, core: CMMCorePlus, tmp_path: Path) -> None:
        def on_frame(number: int) -> None:
            if number == 5:
                core.mda.cancel()

        engine = StampedEngine(core, on_frame=on_frame, skip={1})
        report = self.acquired(core, engine, TEN, tmp_path, "record")
        assert (report.skipped, report.missing) == ([{"t": 1}], [{"t": 7}, {"t": 8}, {"t": 9}])

    @pytest.mark.parametrize("mode", MODES)
    def test_frames_that_were_never_planned_are_not_missing(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        sequence = useq.MDASequence(
            time_plan={"interval": 0, "loops": 5},
            channels=[
                {"config": "DAPI", "acquire_every": 2},
                {"config": "FITC", "do_stack": False},
            ],
            z_plan={"range": 4, "step": 2},
        )
        report = self.acquired(core, StampedEngine(core), sequence, tmp_path, mode)
        planned = len(list(sequence))
        assert planned < 5 * 2 * 3
        assert (report.frames_expected, report.frames_written) == (planned, planned)
        assert report.complete

    def test_pause_changes_nothing(self, core: CMMCorePlus, tmp_path: Path) -> None:
        resume = threading.Timer(0.1, lambda: core.mda.set_paused(False))

        def on_frame(number: int) -> None:
            if number == 3:
                core.mda.set_paused(True)
                resume.start()

        engine = StampedEngine(core, on_frame=on_frame)
        report = self.acquired(core, engine, TEN, tmp_path, "record")
        assert report.complete
        assert report.interval_ms_max is not None and report.interval_ms_max > 50

    def test_open_ended_run_is_complete_with_what_came(
        self, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        report = self.acquired(core, StampedEngine(core), list(TEN), tmp_path, "record")
        assert (report.complete, report.frames_expected, report.frames_written) == (True, None, 10)

    def test_gaps_in_the_camera_counter_are_counted(
        self, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        class Gaps(StampedEngine):
            numbers = iter([0, 1, 2, 5, 6, 0, 1, 3, 4, 5])  # 3, 4 and, after a restart, 2

            def get_frame_metadata(self, *args: Any, **kwargs: Any) -> Any:
                meta = super().get_frame_metadata(*args, **kwargs)
                meta["camera_metadata"] = {"ImageNumber": str(next(self.numbers))}
                return meta

        report = self.acquired(core, Gaps(core), TEN, tmp_path, "record")
        assert report.camera_gaps == 3

    def test_overflow_of_the_buffer_is_reported(
        self, core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(core, "isBufferOverflowed", lambda: True)
        report = self.acquired(core, StampedEngine(core, skip={4}), TEN, tmp_path, "output")
        assert report.buffer_overflowed
        # a frame that the buffer lost looks like one that was skipped: it must not be called so
        assert {"t": 4} in report.missing + report.skipped

    def test_frames_lost_in_the_end_are_missing(self, tmp_path: Path) -> None:
        writer = self.make_writer(tmp_path)
        ten = TEN.model_copy()  # one that no runner has ever seen
        writer.sequenceStarted(ten, {})
        writer.sequenceFinished(ten)
        report = writer.result()
        assert (report.frames_written, report.frames_missing, report.complete) == (0, 10, False)
        assert len(report.missing) == 10
