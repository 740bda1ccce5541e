"""Inside other people's programs: Qt applications, asyncio, two microscopes in one process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import useq
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.mda import _thread_relay, mda_listeners_connected

from conftest import MM_CONFIGS, let_go
from contracts.doubles import CountingEngine, failing
from engine import StampedEngine
from mda_writers import BigTiffWriter, CV2Writer, OMEZarrWriter, WriteError, record, recover
from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("no_thread_left")

APPLICATION = Path(__file__).parent / "children" / "application.py"
TEN = useq.MDASequence(time_plan={"interval": 0, "loops": 10})
HUNDRED = useq.MDASequence(time_plan={"interval": 0.01, "loops": 100})

# ---------------------------------------------------------------- Qt and asyncio


@pytest.mark.parametrize("task", ["every_way", "many_short_runs"])
@pytest.mark.parametrize("backend", ["psygnal", "qt"])
@pytest.mark.parametrize("binding", ["PyQt6", "PySide6"])
def test_in_a_qt_application_every_frame_is_saved(
    binding: str, backend: str, task: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", APPLICATION, binding, backend, task],
        capture_output=True,
        text=True,
        timeout=240,
        # PySide6 under Python 3.11 lets go of True once too often with each signal
        env={
            **os.environ,
            "TMPDIR": str(tmp_path),
            "SHORT_RUNS": "100" if binding == "PyQt6" else "50",
        },
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"Qt does not load here ({done.stdout.strip()})")
    assert (done.returncode, done.stdout.strip()) == (0, "well"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("way", ["record", "connected", "output"])
@pytest.mark.parametrize("on_a_thread", [False, True], ids=["in_a_coroutine", "to_thread"])
def test_under_asyncio_every_frame_is_saved(
    on_a_thread: bool, way: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core, on_frame=lambda n: time.sleep(0.005)))
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    ticks: list[int] = []

    def job() -> None:
        if way == "record":
            record(core, TEN, writer, progress=False)
        elif way == "connected":
            with writer.connected(core):
                core.run_mda(TEN)
        else:
            core.run_mda(TEN, output=writer)
        assert writer.result().complete

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        if on_a_thread:
            await asyncio.to_thread(job)
        else:
            job()
        ticking.cancel()

    asyncio.run(main())
    assert writer.frames_written == 10
    if on_a_thread:
        assert len(ticks) > 2


class RelayThatStopsEarly(_thread_relay.MDARelayThread):
    """Ends as upstream's does when it is told to stop just before it is told of the end."""

    def sequenceFinished(self, *args: Any) -> None:
        self.stop()
        while self.is_alive():
            time.sleep(0.001)
        super().sequenceFinished(*args)


@pytest.mark.parametrize("canceled", [False, True])
def test_a_relay_that_ends_before_the_end_was_announced_loses_nothing(
    canceled: bool, core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_thread_relay, "MDARelayThread", RelayThatStopsEarly)
    engine = StampedEngine(core, on_frame=lambda n: canceled and n == 4 and core.mda.cancel())
    core.mda.set_engine(engine)
    for kind, name in ((BigTiffWriter, "a.ome.tiff"), (OMEZarrWriter, "a.ome.zarr")):
        writer = kind(tmp_path / name)
        core.run_mda(TEN, output=writer, block=True)
        report = writer.result()
        assert (report.complete, report.canceled) == (not canceled, canceled)
        assert report.frames_written == (5 if canceled else 10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_relay_that_dies_with_the_last_frame_is_noticed(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    class Raising:
        def frameReady(self, frame: Any, event: Any, meta: Any) -> None:
            if event.index["t"] == 9:
                raise RuntimeError("somebody else's handler")

    core.mda.set_engine(StampedEngine(core))
    writer, raising = BigTiffWriter(tmp_path / "a.ome.tiff"), Raising()
    core.run_mda(TEN, output=[raising, writer], block=True)
    with pytest.raises(WriteError):
        writer.result()
    assert writer.frames_written == 9


def test_a_signal_that_cannot_be_disconnected_harms_no_recording(
    core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("wrapped C/C++ object has been deleted")

    core.mda.set_engine(StampedEngine(core))
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    with writer.connected(core):
        core.mda.run(TEN)
        monkeypatch.setattr(type(core.mda.events.frameReady), "disconnect", refuse)
    assert writer.result().complete


# ---------------------------------------------------------------- two cores in a process


@pytest.fixture
def other_core() -> Iterator[CMMCorePlus]:
    """Give a second microscope of the same process."""
    core = CMMCorePlus()
    core.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
    yield core
    let_go(core)


@pytest.mark.parametrize(
    ("way", "same_sequence"),
    [
        ("output", True),
        ("output", False),
        ("connected", True),
        ("relay", False),
        ("by_hand", True),
    ],
)
def test_only_the_run_that_feeds_a_failing_writer_is_cancelled(
    way: str, same_sequence: bool, core: CMMCorePlus, other_core: CMMCorePlus, tmp_path: Path
) -> None:
    engines = [CountingEngine(each) for each in (core, other_core)]
    core.mda.set_engine(engines[0])
    other_core.mda.set_engine(engines[1])
    good = BigTiffWriter(tmp_path / "good.ome.tiff")
    bad = failing(BigTiffWriter, 10)(tmp_path / "bad.ome.tiff")
    theirs = HUNDRED if same_sequence else HUNDRED.replace(metadata={"of": "the other"})
    thread = core.run_mda(HUNDRED, output=good)
    run_in_way(way, other_core, theirs, bad)
    with pytest.raises(WriteError, match="told to fail") as raised:
        bad.result()
    assert "not known" not in str(raised.value)
    thread.join()
    assert good.result().complete
    assert engines[0].given == 100
    assert engines[1].given < 100


def run_in_way(way: str, core: CMMCorePlus, sequence: Any, writer: Any) -> None:
    """Run `sequence` on `core` for `writer`, and wait for the end of the run."""
    if way == "output":
        core.run_mda(sequence, output=writer, block=True)
    elif way == "connected":
        with pytest.raises(WriteError), writer.connected(core):
            core.run_mda(sequence, block=True)
    elif way == "relay":
        with mda_listeners_connected(writer, mda_events=core.mda.events):
            core.mda.run(sequence)
    else:
        for name in ("sequenceStarted", "frameReady", "sequenceCanceled", "sequenceFinished"):
            getattr(core.mda.events, name).connect(getattr(writer, name))
        core.run_mda(sequence, block=True)


def test_where_the_run_is_not_known_no_other_is_cancelled(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    engine = CountingEngine(core)
    core.mda.set_engine(engine)
    good = BigTiffWriter(tmp_path / "good.ome.tiff")
    bad = failing(BigTiffWriter, 3)(tmp_path / "bad.ome.tiff", core=core)
    direct = failing(BigTiffWriter, 3)(tmp_path / "direct.ome.tiff", core=core)
    thread = core.run_mda(HUNDRED, output=good)
    bad.sequenceStarted(TEN, {})  # from a source of frames that nobody knows
    for event in TEN:
        bad.frameReady(stamp(event.index, (32, 32), "uint16"), event, {})
    bad.sequenceFinished(TEN)
    with pytest.raises(WriteError, match="not known which run feeds this writer"):
        bad.result()
    direct.begin(32, 32)
    with pytest.raises(WriteError, match=r"told to fail.*kept\.$"):
        for t in range(100):
            direct.add_frame(stamp({"t": t}, (32, 32), "uint16"))
        direct.finish()
    with pytest.raises(WriteError, match="told to fail"):
        direct.finish()
    thread.join()
    assert good.result().complete
    assert engine.given == 100


def test_of_two_runs_of_one_sequence_neither_is_cancelled_on_a_guess(
    core: CMMCorePlus, other_core: CMMCorePlus, tmp_path: Path
) -> None:
    """A relay that the user made himself does not say whose it is."""
    for each in (core, other_core):
        each.mda.set_engine(CountingEngine(each))
    bad = failing(BigTiffWriter, 3)(tmp_path / "bad.ome.tiff")
    thread = core.run_mda(HUNDRED, output=(good := BigTiffWriter(tmp_path / "good.ome.tiff")))
    with mda_listeners_connected(bad, mda_events=other_core.mda.events):
        other_core.mda.run(HUNDRED)
    with pytest.raises(WriteError, match="not known which run feeds this writer"):
        bad.result()
    thread.join()
    assert good.result().complete


def test_a_writer_that_is_not_fed_does_not_wait_for_the_runs_of_others(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core, on_frame=lambda n: time.sleep(0.05)))
    good, idle = BigTiffWriter(tmp_path / "good.ome.tiff"), BigTiffWriter(tmp_path / "b.ome.tiff")
    thread = core.run_mda(HUNDRED, output=good)
    while not good.frames_received:
        time.sleep(0.01)
    idle.close()
    assert good.frames_received < 100
    core.mda.cancel()
    thread.join()
    assert good.result().canceled


@pytest.mark.parametrize("kind", [BigTiffWriter, OMEZarrWriter, CV2Writer])
def test_two_writers_for_one_path_get_a_sentence(
    kind: Any, core: CMMCorePlus, tmp_path: Path
) -> None:
    path = tmp_path / f"a{kind.suffixes[0]}"
    (tmp_path / "link").symlink_to(tmp_path)
    again = tmp_path / "link" / path.name
    for first, second in (
        (path, path),
        (path, again),
        (path, path.parent / "x" / ".." / path.name),
    ):
        with pytest.raises(ValueError, match="two of the writers have the path"):
            record(core, TEN, [kind(first), kind(second, overwrite=True)], progress=False)
    writer = kind(path)
    with pytest.raises(ValueError, match="Give each a name of its own"):
        record(core, TEN, [writer, writer], progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["link"]


# ---------------------------------------------------------------- Ctrl-C in the middle of a run


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to itself")
@pytest.mark.parametrize(("way", "times"), [("record", 1), ("record", 2), ("connected", 1)])
def test_ctrl_c_ends_the_run_and_keeps_what_came(way: str, times: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tiff"
    script = APPLICATION.with_name("interrupted_run.py")
    done = subprocess.run(
        [sys.executable, script, path, way, str(times)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    received, written = map(int, done.stdout.split())
    assert 20 <= received < 500
    if times == 1:
        assert written == received
    else:
        assert 0 < recover(path).frames_written == written < received
