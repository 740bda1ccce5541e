"""A format that somebody adds as CONTRIBUTING says is written, read, verified and recovered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mda_writers import Acquisition, Format, convert, open_dataset, recover, register_format, verify
from mda_writers.formats.base import FORMATS
from mda_writers.writers import WRITERS

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def npy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """Register the example's format, for the time of one test."""
    for table in (FORMATS, WRITERS):
        for name in ("npy", ".npys"):
            monkeypatch.setitem(table, name, ("own_format", ""))
            monkeypatch.delitem(table, name)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    sys.modules.pop("own_format", None)
    import own_format

    yield own_format.NpyWriter
    del sys.modules["own_format"]


def frame(number: int) -> np.ndarray:
    return np.full((5, 6), number, np.uint16)


def recorded(npy: type, path: Path, positions: int = 2) -> Path:
    writer = npy(path)
    writer.begin(6, 5, dtype="uint16", sizes={"p": positions, "t": 3})
    for number in range(3 * positions):
        writer.add_frame(frame(number))
    assert writer.finish().complete
    return path


@pytest.mark.parametrize("positions", [1, 2])
def test_recording_of_a_new_format_opens(positions: int, npy: type, tmp_path: Path) -> None:
    writer = npy(tmp_path / "live" / "exp.npys")
    writer.begin(6, 5, dtype="uint16", sizes={"p": positions, "t": 3})
    for number in range(3 * positions):
        writer.add_frame(frame(number))
    copy = tmp_path / "copy"
    writer._run.settle()  # a copy that is torn by writing is another test
    shutil.copytree(tmp_path / "live", copy)
    report = writer.finish()
    assert report.complete
    folders = [path for path in (tmp_path / "live").iterdir() if path.is_dir()]
    assert {str(folder) for folder in folders} <= set(report.paths)
    with open_dataset(tmp_path / "live" / "exp.npys") as dataset:
        assert dataset.read_image(t=2, **({"p": 1} if positions > 1 else {})).max() == (
            3 * positions - 1
        )
    assert verify(tmp_path / "live" / "exp.npys", progress=False).ok
    next(folders[0].glob("*.npy")).unlink()
    assert not verify(tmp_path / "live" / "exp.npys", progress=False).ok
    recovered = recover(copy / "exp.npys")
    assert verify(copy / "exp.npys", progress=False).intact
    assert recovered.frames_written <= 3 * positions


KILLED = """
import os, signal, sys, time
sys.path[:0] = sys.argv[1:3]
from own_format import NpyWriter
from test_new_format import frame
writer = NpyWriter(sys.argv[3])
writer.begin(6, 5, dtype="uint16", sizes={"p": 2, "t": 300})
for number in range(400):
    writer.add_frame(frame(number))
while writer.frames_written < 400:
    time.sleep(0.01)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_recording_of_a_new_format_is_recovered(tmp_path: Path) -> None:
    path = tmp_path / "exp.npys"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(EXAMPLES), str(Path(__file__).parent), str(path)],
        check=False,
    )
    assert done.returncode == -9
    with open_dataset(path) as dataset:  # before it is recovered
        assert not dataset.complete
        np.testing.assert_array_equal(dataset.read_image(p=1, t=50), frame(350))
    report = recover(path)
    assert (report.frames_written, report.complete) == (400, False)
    assert verify(path, progress=False).intact
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.read_image(p=0, t=299), frame(299))


def test_a_new_format_is_converted_from_and_to(npy: type, tmp_path: Path) -> None:
    path = recorded(npy, tmp_path / "exp.npys")
    convert(path, tmp_path / "exp.ome.tiff", progress=False)
    convert(tmp_path / "exp.ome.tiff", tmp_path / "back.npys", progress=False)
    assert verify(tmp_path / "back.npys", progress=False).ok
    with open_dataset(tmp_path / "back.npys") as dataset:
        for p, t in np.ndindex(2, 3):
            np.testing.assert_array_equal(dataset.read_image(p=p, t=t), frame(3 * p + t))


def test_a_session_takes_a_new_format_by_its_suffix(tmp_path: Path) -> None:
    with Acquisition(tmp_path, subject="m", session="1", task="rest") as session:
        writer = session.writer("eye", ".npys", direct=True)
        writer.begin(6, 5, dtype="uint16")
        writer.add_frame(frame(7))
        report = writer.finish()
    assert report.complete
    with open_dataset(report.path) as dataset:
        assert dataset.read_image(t=0).max() == 7


def test_a_name_or_suffix_that_is_taken_is_refused(npy: type) -> None:
    class Taken(Format):
        name = "bigtiff"

    with pytest.raises(ValueError, match="a format 'bigtiff' already"):
        register_format(Taken, npy)
    ours = type("Ours", (Taken,), {"name": "ours"})
    for suffix, why in [(".tif", "BigTiffWriter writes it"), (".a.b", "a dot and lower-case")]:
        with pytest.raises(ValueError, match=why):
            register_format(ours, type("W", (npy,), {"suffixes": (suffix,)}))
    assert "ours" not in FORMATS
