"""Block files and staged writes: every byte arrives at its place, whatever way it takes."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mda_writers import BigTiffWriter
from mda_writers.errors import DiskFullError, WriteError
from mda_writers.storage import block_file
from mda_writers.storage.block_file import BLOCK, BlockFile, accepts_direct
from mda_writers.storage.files import replace_bytes, replacing
from mda_writers.storage.write_pool import WritePool

pytestmark = pytest.mark.usefixtures("no_thread_left")

DIRECT = pytest.mark.parametrize("direct", [True, False], ids=["direct", "ordinary"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose file system takes direct writes, or skip the test."""
    if not accepts_direct(tmp_path):
        pytest.skip(f"{tmp_path} takes no direct writes; the ordinary path is tested elsewhere")
    return tmp_path


def small_pool() -> WritePool:
    return WritePool(buffers=5, buffer_bytes=4 * BLOCK)


@DIRECT
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_pieces_of_any_size_in_any_order_make_the_file(
    tmp_path_factory: pytest.TempPathFactory, direct: bool, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("pool")
    if direct and not accepts_direct(folder):
        pytest.skip("no direct writes here")
    size = data.draw(st.integers(1, 6 * BLOCK))
    cuts = data.draw(st.lists(st.integers(0, size), max_size=12))
    edges = sorted({0, size, *cuts})
    pieces = data.draw(st.permutations(list(pairwise(edges))))
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    with closing(BlockFile(folder / "x", direct=direct)) as file, closing(small_pool()) as pool:
        for start, end in pieces:
            pool.write(file, 77 + start, content[start:end])
            if data.draw(st.booleans()):
                pool.flush()
        pool.drain()
        assert pool.landed() >= pool.staged()
    assert (folder / "x").read_bytes() == bytes(77) + content.tobytes()


@pytest.mark.parametrize("shape", [(64, 64), (50, 37), (1, 1), (300, 300)])
def test_the_fallback_gives_the_same_files_byte_for_byte(
    shape: tuple[int, int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(path: Path) -> bytes:
        writer = BigTiffWriter(path)
        writer.begin(shape[1], shape[0], False, dtype="uint16", sizes={"t": 40})
        for t in range(40):
            writer.add_frame(np.full(shape, t, np.uint16))
        writer.finish()
        return path.read_bytes()

    direct = record(folder / "direct.tif")
    monkeypatch.setattr(block_file, "accepts_direct", lambda folder: False)
    ordinary = record(folder / "ordinary.tif")
    monkeypatch.delattr(os, "pwrite")  # as on Windows
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    monkeypatch.setattr(block_file, "_fallocate", lambda: None)
    windows = record(folder / "windows.tif")
    assert direct == ordinary == windows


def test_dirty_pages_are_written_out_on_the_ordinary_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(block_file, "_sync", synced.append)
    monkeypatch.setattr(block_file, "DIRTY_BYTES", 100)
    file = BlockFile(tmp_path / "x", direct=False)
    for n in range(10):
        file.write_at(n * 50, memoryview(bytes(50)))
    file.close()
    assert len(synced) == 5


def test_more_files_than_may_be_open_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_file, "MAX_OPEN", 5)
    monkeypatch.setattr(block_file, "FEW_OPEN", 0)
    files = [BlockFile(tmp_path / str(n)) for n in range(20)]
    with closing(small_pool()) as pool:
        for turn in range(3):
            for n, file in enumerate(files):
                pool.write(file, turn * 10, np.full(10, n, np.uint8))
        pool.drain()
        assert len(block_file._open_files) <= 5 + 3  # those being written at the moment stay open
    for n, file in enumerate(files):
        file.close()
        assert (tmp_path / str(n)).read_bytes() == bytes([n]) * 30


def test_a_failed_write_is_told_and_nothing_after_it_counts_as_landed(tmp_path: Path) -> None:
    class Failing(BlockFile):
        def write_at(self, offset: int, data: memoryview) -> None:
            if offset >= 2 * BLOCK:
                raise OSError(28, "No space left on device")
            super().write_at(offset, data)

    file, pool = Failing(tmp_path / "x", direct=False), small_pool()
    marks = []
    with pytest.raises(DiskFullError, match="free"):
        for n in range(100):
            pool.write(file, n * BLOCK, np.zeros(BLOCK, np.uint8))
            marks.append(pool.staged())
            pool.drain()
    pool.close()
    assert len(marks) == 3
    assert pool.landed() == marks[1]
    file.close()


def test_a_pool_waits_for_a_slow_disk_instead_of_growing(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(BlockFile):
        def write_at(self, offset: int, data: memoryview) -> None:
            gate.wait(10)
            super().write_at(offset, data)

    file, pool = Slow(tmp_path / "x", direct=False), small_pool()
    written: list[int] = []

    def fill() -> None:
        for n in range(100):
            pool.write(file, n * 4 * BLOCK, np.full(4 * BLOCK, n, np.uint8))
            written.append(n)

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join(0.3)
    assert len(written) <= 5
    gate.set()
    thread.join()
    pool.drain()
    pool.close()
    file.close()
    data = np.fromfile(tmp_path / "x", np.uint8).reshape(100, -1)
    assert (data == np.arange(100, dtype=np.uint8)[:, None]).all()


def test_space_is_claimed_without_changing_what_is_there(tmp_path: Path) -> None:
    file = BlockFile(tmp_path / "x")
    file.patch(0, b"abc")
    file.claim(3, 1 << 20)
    file.close()
    assert (tmp_path / "x").read_bytes() == b"abc" + bytes(1 << 20)


def test_claiming_more_than_there_is_says_how_much_is_missing(tmp_path: Path) -> None:
    file = BlockFile(tmp_path / "x")
    with pytest.raises(WriteError, match=r"needed"):
        file.claim(0, 1 << 60)
    file.close()


def test_a_replaced_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    replace_bytes(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as stream:
        stream.write(b"half of the ne")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    replace_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_synced_recordings_journal_a_frame_only_when_it_would_survive_a_power_cut(
    tmp_path: Path,
) -> None:
    writer = BigTiffWriter(tmp_path / "x.tif", sync_ms=50)
    writer.begin(16, 16)
    for _ in range(20):
        writer.add_frame(np.zeros((16, 16), np.uint8))
    assert writer.finish().complete
