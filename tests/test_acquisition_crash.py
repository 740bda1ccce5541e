"""Crash, Ctrl-C, a forgotten close: each leaves a manifest that says so, and every frame."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from mda_writers import Acquisition, recover
from mda_writers.acquisition.logs import read_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHILD = Path(__file__).parent / "children" / "session.py"
PATIENCE_S = 30


@contextmanager
def child(root: Path, how: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a session in a process of its own; give it, and the session's folder."""
    flags = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(root), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        creationflags=flags,
        env={**os.environ, "PYMM_LOG_FILE": "0"},
    )
    assert process.stdout is not None
    try:
        with process:
            yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def journal_lines(folder: Path, device: str) -> int:
    files = list(folder.glob(f"func/*_{device}.ome.tiff_frames.jsonl"))
    return files[0].read_bytes().count(b'\n{"key":') if files else 0


def read(folder: Path) -> dict:
    return orjson.loads((folder / "manifest.json").read_bytes())


def files_named(manifest: dict) -> list[str]:
    recordings = [r for p in manifest["producers"] for r in p["recordings"]]
    return [f["path"] for r in [*recordings, manifest] for f in r["files"]]


def test_killed_session_is_known_as_crashed_and_keeps_its_data(tmp_path: Path) -> None:
    with child(tmp_path, "record") as (process, folder):
        wait_until(lambda: min(journal_lines(folder, d) for d in ("meso", "eye")) > 20)
        assert Acquisition.open(folder).status == "recording"
        process.kill()
    manifest = read(folder)
    assert (manifest["status"], manifest["complete"]) == ("recording", False)
    assert all((folder / file).exists() for file in files_named(manifest))
    session = Acquisition.open(folder)
    assert (session.status, session.complete) == ("crashed", False)
    assert set(session.devices) == {"meso", "eye", "wheel"}
    assert [note["note"] for note in session.notes] == ["begun"]
    assert [row["stopped"] for row in session.timestamps] == ["", "", ""]
    numbers = [int(row["payload"]) for row in session.log("wheel")]
    assert numbers == list(range(len(numbers))) and len(numbers) > 20
    with session.dataset("eye") as eye:
        assert (eye.read_image(t=7) == 7).all()
    for device in ("meso", "eye"):
        (recording,) = session.recordings(device)
        assert recover(folder / recording.folder / recording.name).frames_written > 20
    assert all((folder / file).exists() for file in files_named(read(folder)))
    # the journals are gone now; the crashed manifest still leads to the data
    with session.dataset("eye") as eye:
        assert (eye.read_image(t=9) == 9).all()


def kill_while_recordings_begin_and_end(root: Path, after_s: float) -> int:
    """Check what a session leaves that is killed at that moment; return its recordings."""
    with child(root, "busy") as (process, folder):
        time.sleep(after_s)
        process.kill()
    manifest = read(folder)
    assert (manifest["status"], manifest["complete"]) == ("recording", False)
    assert all((folder / file).exists() for file in files_named(manifest))
    session = Acquisition.open(folder)
    assert session.status == "crashed"
    assert all(row["note"].endswith("begins") for row in session.notes)
    recordings = session.recordings("eye")
    for number, recording in enumerate(recordings):
        if recording.status != "recording":
            with session.dataset("eye", number) as eye:
                assert (eye.read_image(t=0, p=0) == number % 256).all()
    numbers = [int(row["number"]) for row in session.log("wheel")]
    assert numbers == list(range(len(numbers)))
    return len(recordings)


def test_manifest_is_true_whenever_the_process_is_killed(tmp_path: Path) -> None:
    found = [kill_while_recordings_begin_and_end(tmp_path / str(n), n / 3) for n in (1, 2)]
    assert max(found) > 1


@pytest.mark.soak
def test_manifest_is_true_in_fifty_kills(tmp_path: Path) -> None:
    moments = random.Random(9)
    found = [
        kill_while_recordings_begin_and_end(tmp_path / str(n), moments.uniform(0, 1))
        for n in range(50)
    ]
    assert sum(found) > 50


@pytest.mark.parametrize("how", ["record", "sleep"])
def test_ctrl_c_ends_the_session_as_interrupted(how: str, tmp_path: Path) -> None:
    with child(tmp_path, how) as (process, folder):
        devices = ["eye", "meso"][: 2 if how == "record" else 1]
        wait_until(lambda: min(journal_lines(folder, d) for d in devices) > 5)
        process.send_signal(signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode != 0
        assert "KeyboardInterrupt" in stderr
    session = Acquisition.open(folder)
    assert (session.status, session.complete) == ("interrupted", False)
    assert session.manifest.errors == ["KeyboardInterrupt"]
    (eye,) = session.recordings("eye")
    assert eye.complete and eye.frames_written > 5  # its own loop ended in order
    if how == "record":
        (meso,) = session.recordings("meso")
        assert (meso.status, meso.complete) == ("canceled", False)
        assert 5 < meso.frames_written < meso.frames_expected == 3000
    assert all(row["stopped"] for row in session.timestamps)
    assert all(entry.xxh3_128 for entry in session.manifest.files)


def test_session_that_nobody_closed_is_closed_as_interrupted(tmp_path: Path) -> None:
    with child(tmp_path, "left open") as (process, folder):
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert "the program ended before the session was closed" in stderr
    session = Acquisition.open(folder)
    assert (session.status, session.complete) == ("interrupted", False)
    assert session.dataset("meso").read_image(t=0).all()


def test_torn_last_row_is_no_row(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("a,b\n1,2\n3,")
    assert list(read_csv(file)) == [{"a": "1", "b": "2"}]
    file.write_text("a,b\n1,2\n3,4\n")
    assert list(read_csv(file)) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
