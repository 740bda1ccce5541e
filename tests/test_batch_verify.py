"""verify and recover for many recordings: what is done is skipped, what is not fine is told."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
import tifffile
from typer.testing import CliRunner

from batch_recordings import recorded
from mda_writers import open_dataset, recover, verify
from mda_writers.batch import BatchError, recover_all, verify_all
from mda_writers.cli import app

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")

KILLED = """
import os, sys, numpy as np
from mda_writers import BigTiffWriter
writer = BigTiffWriter(sys.argv[1])
writer.begin(40, 30, sizes={"t": 9})
for n in range(5): writer.add_frame(np.full((30, 40), n, np.uint8))
writer.isel(t=4)
os._exit(9)
"""


def killed(path: Path) -> Path:
    """Let a process die while it writes a recording; five of nine frames are on disk."""
    path.parent.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    return path


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_every_recording_is_verified_and_nothing_is_written(tmp_path: Path) -> None:
    for name in "abc":
        recorded(tmp_path / "in" / f"{name}.ome.tiff")
    tifffile.imwrite(tmp_path / "in" / "foreign.tif", np.zeros((8, 8), "uint8"))
    flip(tmp_path / "in" / "b.ome.tiff", 4096 + 3 * 2048)
    before = everything(tmp_path)
    with pytest.raises(BatchError, match=r"b.ome.tiff.*\n?.*frame 3 \(t=1, c=1\)") as caught:
        verify_all(tmp_path / "in", progress=False)
    assert everything(tmp_path) == before
    results = caught.value.summary.results
    assert [(r.output.name[0], r.status) for r in results] == [
        ("a", "done"), ("b", "failed"), ("c", "done")
    ]  # fmt: skip


def test_with_a_folder_for_results_what_was_verified_is_not_read_again(tmp_path: Path) -> None:
    for name in ("a.ome.tiff", "sub/b.ome.tiff", "sub/c.ome.tiff"):
        recorded(tmp_path / "in" / name)
    flip(tmp_path / "in" / "sub" / "c.ome.tiff", 4096)
    before = everything(tmp_path / "in")

    def again(**options: bool) -> list[str]:
        with pytest.raises(BatchError) as caught:
            verify_all(tmp_path / "in", tmp_path / "out", progress=False, **options)
        return [result.status for result in caught.value.summary.results]

    assert again() == ["done", "done", "failed"]
    assert again() == ["skipped", "skipped", "failed"]
    assert everything(tmp_path / "in") == before
    told = orjson.loads((tmp_path / "out" / "sub" / "c_verify.json").read_bytes())
    assert not told["ok"]
    assert not told["intact"]
    assert [fault["index"] for fault in told["faults"]] == [{"t": 0, "c": 0}]
    assert orjson.loads((tmp_path / "out" / "a_verify.json").read_bytes())["ok"]
    # the fault is mended: another file, so that the old result is replaced only when asked
    flip(tmp_path / "in" / "sub" / "c.ome.tiff", 4096)
    assert again() == ["skipped", "skipped", "failed"]
    summary = verify_all(tmp_path / "in", tmp_path / "out", overwrite=True, progress=False)
    assert [result.status for result in summary.results] == ["skipped", "skipped", "done"]


def test_recordings_that_were_killed_are_completed_and_others_left_alone(tmp_path: Path) -> None:
    whole = recorded(tmp_path / "in" / "whole.ome.tiff")
    for name in ("x", "y"):
        killed(tmp_path / "in" / f"{name}.ome.tiff")
    before = {k: v for k, v in everything(tmp_path).items() if "whole" in k}
    summary = recover_all(tmp_path / "in", progress=False)
    assert {r.output.name: r.status for r in summary.results} == {
        "whole.ome.tiff": "skipped", "x.ome.tiff": "done", "y.ome.tiff": "done"
    }  # fmt: skip
    assert "5 of 9 planned frames" in summary.results[-1].reason
    for name in ("x", "y"):
        path = tmp_path / "in" / f"{name}.ome.tiff"
        assert verify(path, progress=False).frames_checked == 5
        assert verify(path, progress=False).intact
        assert recover(path).frames_written == 5
        with open_dataset(path) as dataset:
            assert not dataset.is_live()
    assert {k: v for k, v in everything(tmp_path).items() if "whole" in k} == before
    assert verify(whole, progress=False).ok
    again = recover_all(tmp_path / "in", progress=False)
    assert [result.status for result in again.results] == ["skipped"] * 3


def test_one_that_cannot_be_recovered_harms_no_other(tmp_path: Path) -> None:
    for name in ("x", "y"):
        killed(tmp_path / "in" / f"{name}.ome.tiff")
    journal = tmp_path / "in" / "x.ome.tiff_frames.jsonl"
    journal.write_bytes(journal.read_bytes()[:20])
    with pytest.raises(BatchError, match=r"1 of 2 failed:\n.*x.ome.tiff.*first line is cut"):
        recover_all(tmp_path / "in", progress=False)
    assert verify(tmp_path / "in" / "y.ome.tiff", progress=False).intact


def test_a_folder_without_recordings_of_ours_is_told(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "foreign.tif", np.zeros((8, 8), "uint8"))
    for work in (verify_all, recover_all):
        with pytest.raises(FileNotFoundError, match="no recording of mda-writers"):
            work(tmp_path, progress=False)
    with pytest.raises(BatchError, match=r"foreign.tif: no recording of mda-writers"):
        verify_all(tmp_path / "foreign.tif", progress=False)


def test_the_command_line_verifies_into_a_folder(tmp_path: Path) -> None:
    for name in "ab":
        recorded(tmp_path / "in" / f"{name}.ome.tiff")
    words = ["verify", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--workers", "2"]
    first, second = (CliRunner().invoke(app, words) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "2 done" in first.output
    assert "2 skipped" in second.output
    flip(tmp_path / "in" / "a.ome.tiff", 4096)
    third = CliRunner().invoke(app, [*words, "--overwrite"])
    assert third.exit_code == 1
    assert "1 skipped, 1 failed" in third.output
