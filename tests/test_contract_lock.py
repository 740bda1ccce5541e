"""Who is writing: a live recording is never taken for an interrupted one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest

from mda_writers import BigTiffWriter, WriteError, recover
from mda_writers.recording.journal import header_line
from mda_writers.storage import files
from mda_writers.storage.files import FileLock, is_alive, this_process

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    held = FileLock(file)
    with pytest.raises(BlockingIOError, match="file"):
        FileLock(file)
    assert file.read_bytes() == b"content"  # it is no obstacle to readers
    held.release()
    held.release()
    FileLock(file).release()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    code = (
        "import sys, pathlib; from mda_writers.storage.files import FileLock;"
        f"held = FileLock(pathlib.Path({str(file)!r})); print('held', flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(BlockingIOError):
            FileLock(file)
        child.kill()
    FileLock(file).release()


def test_processes_are_told_apart() -> None:
    me = this_process()
    assert me["pid"] == os.getpid()
    assert is_alive(me)
    assert not is_alive({**me, "started_unix_s": me["started_unix_s"] - 60})  # the id is used again
    assert not is_alive({**me, "pid": 2**22 + 1})
    assert not is_alive({**me, "host": "another machine"})
    assert not is_alive({})


def test_without_locks_the_process_in_the_header_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have no locks."""

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_lock", refuse)
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff")
    writer.begin(32, 32)
    writer.add_frame(np.ones((32, 32), np.uint8))
    writer.isel(t=0)
    with pytest.raises(WriteError, match=f"still being written, by process {os.getpid()}"):
        recover(tmp_path / "exp.ome.tiff")
    torn = tmp_path / "torn"
    torn.mkdir()
    for file in tmp_path.glob("exp*"):
        (torn / file.name).write_bytes(file.read_bytes())
    writer.finish()
    journal = torn / "exp.ome.tiff_frames.jsonl"
    header, _, rest = journal.read_bytes().split(b"\n", 2)  # the header is there twice
    content = orjson.loads(header)["recording"]
    content["process"]["pid"] = 2**22 + 1  # of a process that is no more
    journal.write_bytes(header_line(content) + rest)
    assert recover(torn / "exp.ome.tiff").frames_written == 1
