"""The report tells planned, written, skipped and missing frames apart; complete means complete."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import useq

from contracts.kind import Kind, report_on_disk
from engine import StampedEngine
from mda_writers import MissingFramesError, record

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from mda_writers.model.report import RecordingReport

TEN = useq.MDASequence(time_plan={"interval": 0, "loops": 10})
MODES = ["record", "output"]


def run(core: CMMCorePlus, events: Any, writer: Any, mode: str) -> None:
    """Acquire in one of `MODES`, and raise what went wrong."""
    if mode == "record":
        record(core, events, writer, progress=False)
        return
    core.run_mda(events, output=writer, block=True)
    writer.result()


class CancelledSequence(StampedEngine):
    """Is cancelled in the middle of a hardware sequence, and stops as the real engine does."""

    def __init__(self, core: CMMCorePlus) -> None:
        super().__init__(core, hardware=True)

    def exec_event(self, event: useq.MDAEvent) -> Any:
        for number, payload in enumerate(super().exec_event(event)):
            if number == 4:
                self.mmcore.mda.cancel()
            if (yield payload) == "cancel":
                return


class TruthContract(Kind):
    """Contract 7: the truth about a recording."""

    def acquired(
        self, core: CMMCorePlus, engine: Any, events: Any, folder: Path, mode: str
    ) -> RecordingReport:
        """Acquire, check what is on disk against the report, and return it."""
        core.mda.set_engine(engine)
        writer = self.make_writer(folder, core=core)
        run(core, events, writer, mode)
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

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("hardware", [True, False], ids=["hardware", "software"])
    @pytest.mark.parametrize("lose", [{0}, {4, 5, 9}, set(range(10))], ids=["one", "some", "all"])
    def test_frames_that_the_engine_loses_are_missing_and_raised(
        self, lose: set[int], hardware: bool, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        core.mda.set_engine(StampedEngine(core, lose=lose, hardware=hardware))
        writer = self.make_writer(tmp_path, core=core)
        with pytest.raises(MissingFramesError, match=rf"{len(lose)} frames? never came") as caught:
            run(core, TEN, writer, mode)
        assert caught.value.missing == [{"t": t} for t in sorted(lose)]
        for ending in (writer.result, writer.close, writer.finish):
            with pytest.raises(MissingFramesError):
                ending()
        report = report_on_disk(tmp_path / self.file_name)
        assert (report["skipped"], report["missing"]) == ([], caught.value.missing)
        assert (report["complete"], report["frames_written"]) == (False, 10 - len(lose))
        assert len(self.check_frames(tmp_path)) == 10 - len(lose)

    @pytest.mark.parametrize("mode", MODES)
    def test_lost_and_skipped_frames_are_told_apart(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        core.mda.set_engine(StampedEngine(core, lose={0, 5}, skip={0, 3, 9}))
        writer = self.make_writer(tmp_path, core=core)
        with pytest.raises(MissingFramesError):
            run(core, TEN, writer, mode)
        report = report_on_disk(tmp_path / self.file_name)
        assert report["skipped"] == [{"t": 0}, {"t": 3}, {"t": 9}]
        assert report["missing"] == [{"t": 1}, {"t": 7}]

    @pytest.mark.parametrize("mode", MODES)
    def test_a_skipped_hardware_sequence_is_skipped_as_a_whole(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        engine = StampedEngine(core, hardware=True, skip={0})
        report = self.acquired(core, engine, TEN, tmp_path, mode)
        assert (report.skipped, report.missing) == ([{"t": t} for t in range(10)], [])

    @pytest.mark.parametrize("mode", MODES)
    def test_a_frame_that_one_of_two_cameras_loses_is_missing(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        for events in (TEN, list(TEN)):
            folder = tmp_path / type(events).__name__
            core.mda.set_engine(StampedEngine(core, cameras=2, hardware=True, lose={5}))
            writer = self.make_writer(folder, core=core)
            with pytest.raises(MissingFramesError) as caught:
                run(core, events, writer, mode)
            assert caught.value.missing == [{"t": 2, "cam": 1}]
            assert len(self.check_frames(folder)) == 19

    @pytest.mark.parametrize("mode", MODES)
    def test_frames_of_events_in_a_list_that_the_engine_loses_are_missing(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        core.mda.set_engine(StampedEngine(core, hardware=True, lose={3, 9}))
        writer = self.make_writer(tmp_path, core=core)
        with pytest.raises(MissingFramesError):
            run(core, list(TEN), writer, mode)
        report = report_on_disk(tmp_path / self.file_name)
        assert (report["missing"], report["frames_missing"]) == ([{"t": 3}, {"t": 9}], 2)
        assert report["skipped"] == []

    @pytest.mark.parametrize("mode", MODES)
    def test_a_cancelled_hardware_sequence_is_no_loss(
        self, mode: str, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        engine = CancelledSequence(core)
        report = self.acquired(core, engine, TEN, tmp_path, mode)
        assert (report.canceled, report.complete, report.skipped) == (True, False, [])
        assert report.missing == [{"t": t} for t in range(5, 10)]

    def test_a_frame_that_another_listener_kept_from_us_is_missing(
        self, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        """psygnal calls no slot after one that raised."""

        def raising(image: Any, event: useq.MDAEvent) -> None:
            if event.index["t"] == 4:
                raise RuntimeError("a viewer's own fault")

        core.mda.set_engine(StampedEngine(core))
        core.mda.events.frameReady.connect(raising)
        writer = self.make_writer(tmp_path)
        with pytest.raises(MissingFramesError):
            record(core, TEN, writer, progress=False)
        assert report_on_disk(tmp_path / self.file_name)["missing"] == [{"t": 4}]

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
