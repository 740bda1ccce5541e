"""The same work on a real Dask cluster: two worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest

from batch_recordings import recorded
from mda_writers import convert, open_dataset, verify
from mda_writers.batch import (
    BatchError,
    executor,
    project,
    projection,
    recover_all,
    trace,
    verify_all,
)
from mda_writers.model import frame
from stamps import check_stamp

distributed = pytest.importorskip("distributed")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
        host="127.0.0.1", memory_limit=0,
    ) as cluster:  # fmt: skip
        yield cluster


def frames_of(path: Path) -> tuple[np.ndarray, list[str]]:
    with open_dataset(path) as dataset:
        notes = [dataset.read_metadata(**at)["note"] for at in dataset.image_coordinates]
        return np.asarray(dataset.as_array()), notes


def test_a_cluster_makes_what_the_threads_make(cluster: Any, tmp_path: Path) -> None:
    for n in range(6):
        recorded(tmp_path / "in" / f"{n}.ome.tiff", frames=n + 1)
    address = cluster.scheduler_address
    summary = convert(
        tmp_path / "in", tmp_path / "dask", suffix=".ome.zarr", scheduler=address, progress=False
    )
    assert [result.status for result in summary.results] == ["done"] * 6
    convert(tmp_path / "in", tmp_path / "threads", suffix=".ome.zarr", progress=False)
    for n in range(6):
        pixels, notes = frames_of(tmp_path / "dask" / f"{n}.ome.zarr")
        same_pixels, same_notes = frames_of(tmp_path / "threads" / f"{n}.ome.zarr")
        assert np.array_equal(pixels, same_pixels)
        assert notes == same_notes
        check_stamp(pixels[n, 1], {"t": n, "c": 1})
    # two processes did it, and neither of them was this one
    with distributed.Client(address, set_as_default=False) as client:
        again = convert(
            tmp_path / "in", tmp_path / "dask", suffix=".ome.zarr", client=client, progress=False
        )
    assert [result.status for result in again.results] == ["skipped"] * 6


def test_one_failure_on_the_cluster_harms_no_other(cluster: Any, tmp_path: Path) -> None:
    for n in range(3):
        recorded(tmp_path / "in" / f"{n}.ome.tiff")
    (tmp_path / "in" / "1.ome.tiff").write_bytes(b"II")
    with (
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(BatchError, match=r"1\.ome\.zarr: .*1\.ome\.tiff") as caught,
    ):
        convert(tmp_path / "in", tmp_path / "o", suffix=".ome.zarr", client=client, progress=False)
    assert [r.status for r in caught.value.summary.results] == ["done", "failed", "done"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not there")
def test_a_killed_worker_changes_nothing_about_the_result(cluster: Any, tmp_path: Path) -> None:
    for n in range(8):
        recorded(tmp_path / "in" / f"{n}.ome.tiff", frames=40, shape=(256, 256))
    killed: list[str] = []

    def kill_one_at_work() -> None:
        """Wait until a result is half made, and kill the process that makes it."""
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            pids = client.run(os.getpid)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and not killed:
                for journal in tmp_path.glob("out/.*.making/result/*_frames.jsonl"):
                    pid = _writer_of(journal)
                    if pid in pids.values():
                        os.kill(pid, signal.SIGKILL)
                        killed.append(journal.name)
                        break
                time.sleep(0.001)

    killer = threading.Thread(target=kill_one_at_work)
    with distributed.Client(cluster, set_as_default=False) as client:
        killer.start()
        summary = convert(
            tmp_path / "in", tmp_path / "out", suffix=".ome.zarr", client=client, progress=False
        )
        killer.join()
    assert killed
    assert summary.ok, summary.results
    assert not list((tmp_path / "out").glob(".*"))
    for n in range(8):
        path = tmp_path / "out" / f"{n}.ome.zarr"
        assert verify(path).ok
        pixels, notes = frames_of(path)
        same_pixels, same_notes = frames_of(tmp_path / "in" / f"{n}.ome.tiff")
        assert np.array_equal(pixels, same_pixels)
        assert notes == same_notes


def test_a_cluster_verifies_and_recovers_what_the_threads_would(
    cluster: Any, tmp_path: Path
) -> None:
    for n in range(5):
        recorded(tmp_path / "in" / f"{n}.ome.tiff")
    content = bytearray((tmp_path / "in" / "3.ome.tiff").read_bytes())
    content[4096 + 2048 + 7] ^= 1
    (tmp_path / "in" / "3.ome.tiff").write_bytes(content)
    told = []
    for where in ({"scheduler": cluster.scheduler_address}, {}):
        with pytest.raises(BatchError) as caught:
            verify_all(tmp_path / "in", progress=False, **where)
        told.append([(r.output, r.status, r.reason) for r in caught.value.summary.results])
    assert told[0] == told[1]
    assert [status for _, status, _ in told[0]] == ["done", "done", "done", "failed", "done"]
    summary = recover_all(tmp_path / "in", scheduler=cluster.scheduler_address, progress=False)
    assert [result.status for result in summary.results] == ["skipped"] * 5


WORK: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "convert": (convert, "big.ome.zarr", {"levels": 2, "shards": {"t": 10}}),
    "project": (project, "big.ome.tiff", {"axes": "t"}),
    "trace": (trace, "big.csv", {"regions": {"soma": (1, 50, 2, 70)}}),
    "verify": (verify_all, "big_verify.json", {}),
}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not there")
@pytest.mark.parametrize("work", WORK)
def test_one_large_recording_is_shared_by_the_workers_and_one_may_die(
    work: str, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "PART_BYTES", 10 * 256 * 256 * 2)
    monkeypatch.setattr(projection, "PIECE_BYTES", 10 * 256 * 256 * 2)
    do, name, options = WORK[work]
    source = recorded(tmp_path / "big.ome.tiff", frames=150, shape=(256, 256))
    do(source, tmp_path / "whole" / name, workers=1, progress=False, **options)
    done: list[str] = []
    advance = executor.Bar.advance

    def note(self: Any, what: str = "") -> None:
        done.append(what)
        advance(self, what)

    monkeypatch.setattr(executor.Bar, "advance", note)
    killed: list[int] = []

    def kill_one_at_work() -> None:
        """Wait until some of the tasks are done, and kill a worker."""
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            pids = list(client.run(os.getpid).values())
            assert len(pids) == 2
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                if len(done) >= 2:
                    os.kill(pids[0], signal.SIGKILL)
                    killed.append(len(done))
                    return
                time.sleep(0.001)

    killer = threading.Thread(target=kill_one_at_work)
    with distributed.Client(cluster, set_as_default=False) as client:
        killer.start()
        summary = do(source, tmp_path / "split" / name, client=client, progress=False, **options)
        killer.join()
    assert [result.status for result in summary.results] == ["done"]
    assert 2 <= killed[0] < len(done)
    assert len(done) > 20
    assert not list((tmp_path / "split").glob(".*"))
    one, other = (contents(tmp_path / folder) for folder in ("split", "whole"))
    assert one.keys() == other.keys()
    if work == "project":  # an OME-TIFF has a name of its own, by which others link to it
        pixels = [each.pop(name)[4096 : 4096 + 2 * 256 * 256 * 2] for each in (one, other)]
        assert pixels[0] == pixels[1]
    if work == "verify":
        shown = [orjson.loads(each.pop(name)) for each in (one, other)]
        assert shown[0] | {"seconds": 0} == shown[1] | {"seconds": 0}
        assert shown[0]["frames_checked"] == 300
    differing = {file for file in one if one[file] != other[file]}
    # what tells when it was done, and how long it took
    timed = {f"{name}.process.json", f"{name}_recording.json", f"{name}_frame_metadata.json"}
    assert differing <= timed


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_scheduler_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    from mda_writers import WriteError

    source = recorded(tmp_path / "a.ome.tiff")
    connect_s, executor.CONNECT_S = executor.CONNECT_S, 1
    try:
        with pytest.raises(WriteError, match="no Dask scheduler answers"):
            convert(source, tmp_path / "b.ome.zarr", scheduler="tcp://127.0.0.1:9", progress=False)
    finally:
        executor.CONNECT_S = connect_s


def test_threads_need_no_dask_cluster(tmp_path: Path) -> None:
    recorded(tmp_path / "a.ome.tiff")
    code = (
        "import sys, mda_writers\n"
        "mda_writers.convert('a.ome.tiff', 'b.ome.zarr', progress=False)\n"
        "sys.exit('distributed' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == 0


MEASURED = """
import threading, mda_writers
mda_writers.convert("small.ome.tiff", "s.ome.zarr", progress=False)  # all that is imported for it
most, done = 0, threading.Event()

def used():
    # pages of mapped files belong to the system, which takes them back when it needs them
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return sum(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))

def watch():
    global most
    while not done.wait(0.002):
        most = max(most, used())

before = used()
thread = threading.Thread(target=watch)
thread.start()
mda_writers.convert("big.ome.tiff", "b.ome.zarr", progress=False)
done.set()
thread.join()
print(most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a file's pages from our own")
def test_a_recording_is_converted_in_a_fraction_of_its_size_in_memory(tmp_path: Path) -> None:
    recorded(tmp_path / "small.ome.tiff")
    recorded(tmp_path / "big.ome.tiff", frames=200, shape=(1024, 1024))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    size = (tmp_path / "big.ome.tiff").stat().st_size
    assert int(done.stdout) < size / 4, (int(done.stdout), size)


def _writer_of(journal: Path) -> int | None:
    """Return the process that writes a recording; None if it has no frames, or is gone."""
    try:
        lines = journal.read_bytes().splitlines()
        return int(orjson.loads(lines[0])["recording"]["process"]["pid"]) if lines[3:] else None
    except (OSError, ValueError, LookupError):
        return None
