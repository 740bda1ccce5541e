"""Records inside a Qt application, in every way and on every kind of thread."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

BINDING, BACKEND, TASK = sys.argv[1:]
os.environ.update(
    QT_QPA_PLATFORM="offscreen", PYMM_SIGNALS_BACKEND=BACKEND, PYMM_LOG_FILE="0", QT_API=BINDING
)
sys.path.insert(0, str(Path(__file__).parent.parent))

try:
    qt = import_module(f"{BINDING}.QtCore")
    widgets = import_module(f"{BINDING}.QtWidgets")
except ImportError as error:
    print(f"cannot load: {error}")
    sys.exit(77)
application = widgets.QApplication([])

import tifffile
import useq
from pymmcore_plus import CMMCorePlus

from conftest import MM_CONFIGS, let_go
from engine import StampedEngine
from mda_writers import BigTiffWriter, record
from stamps import check_stamp

if TYPE_CHECKING:
    from collections.abc import Callable

core = CMMCorePlus()
core.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
core.mda.set_engine(StampedEngine(core, on_frame=lambda n: time.sleep(0.005)))
folder = Path(tempfile.mkdtemp())
FRAMES = useq.MDASequence(time_plan={"interval": 0, "loops": 12})
ticks = 0


def tick() -> None:
    global ticks
    ticks += 1


timer = qt.QTimer()
timer.timeout.connect(tick)
timer.start(1)


def by_record(writer: BigTiffWriter) -> None:
    record(core, FRAMES, writer, progress=False)


def by_connecting(writer: BigTiffWriter) -> None:
    with writer.connected(core):
        core.run_mda(FRAMES)


def by_connecting_and_blocking(writer: BigTiffWriter) -> None:
    with writer.connected(core):
        core.run_mda(FRAMES, block=True)


def by_connecting_and_running(writer: BigTiffWriter) -> None:
    with writer.connected(core):
        core.mda.run(FRAMES)


def by_output(writer: BigTiffWriter) -> None:
    core.run_mda(FRAMES, output=writer)


def by_output_and_blocking(writer: BigTiffWriter) -> None:
    core.run_mda(FRAMES, output=writer, block=True)
    assert writer in core.mda._handlers  # which viewers ask for


WAYS = (
    by_record,
    by_connecting,
    by_connecting_and_blocking,
    by_connecting_and_running,
    by_output,
    by_output_and_blocking,
)
WAITS_IN_UPSTREAM = (by_connecting_and_blocking, by_connecting_and_running, by_output_and_blocking)


def on_the_main_thread(job: Callable[[], None]) -> None:
    job()


def on_a_plain_thread(job: Callable[[], None]) -> None:
    thread = threading.Thread(target=job)
    thread.start()
    while thread.is_alive():
        application.processEvents()
        time.sleep(0.001)


def on_a_qthread(job: Callable[[], None]) -> None:
    class Thread(qt.QThread):
        def run(self) -> None:
            job()

    thread = Thread()
    thread.finished.connect(application.quit)
    thread.start()
    application.exec()
    thread.wait()


THREADS = (on_the_main_thread, on_a_plain_thread, on_a_qthread)


def check(path: Path) -> None:
    frames = tifffile.imread(path)
    assert len(frames) == 12, frames.shape
    for t, frame in enumerate(frames):
        check_stamp(frame, {"t": t})


def every_way() -> None:
    for thread in THREADS:
        for way in WAYS:
            before = ticks
            path = folder / f"{thread.__name__}_{way.__name__}.ome.tiff"
            failed: list[BaseException] = []

            def job(way: Any = way, path: Path = path, failed: Any = failed) -> None:
                try:
                    writer = BigTiffWriter(path)
                    way(writer)
                    assert writer.result().complete
                except BaseException as error:
                    failed.append(error)

            thread(job)
            if failed:
                raise AssertionError(f"{thread.__name__}, {way.__name__}") from failed[0]
            check(path)
            # the application lives on wherever somebody lets it
            if thread is not on_the_main_thread or way not in WAITS_IN_UPSTREAM:
                assert ticks > before, (thread.__name__, way.__name__)


def many_short_runs() -> None:
    core.mda.set_engine(StampedEngine(core))
    short = useq.MDASequence(channels=["DAPI", "FITC"])
    for number in range(int(os.environ.get("SHORT_RUNS", "100"))):
        writer = BigTiffWriter(folder / f"{number}.ome.tiff")
        core.run_mda(short, output=writer, block=number % 2 == 0)
        report = writer.result()
        assert (report.complete, report.frames_written) == (True, 2), report


{"every_way": every_way, "many_short_runs": many_short_runs}[TASK]()
let_go(core)
print("well")
