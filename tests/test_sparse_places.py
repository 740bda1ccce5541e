"""A few frames far out along an axis cost what a few frames cost, in every format."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask.array  # noqa: F401 - takes a second to import, which is nobody's fault here
import numpy as np
import pytest
import useq
import xarray  # noqa: F401 - the same

from engine import StampedEngine
from formats import FORMATS, new_writer
from mda_writers import BigTiffWriter, convert, open_dataset, record, recover, verify
from mda_writers.errors import FrameError
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

FAR = 10**8
# the frames of a recording, in the order in which they come
PLACES: dict[str, list[dict[str, int]]] = {
    "t": [{"t": 0}, {"t": FAR}, {"t": 5}],
    "z": [{"t": 0, "z": 0}, {"t": 0, "z": 70_000}, {"t": 1, "z": 3}],
    "t_and_z": [{"t": 0, "z": 0}, {"t": 90_000, "z": 3}, {"t": 4, "z": 60_000}],
    "only_one": [{"t": FAR}],
    "a_diagonal": [{"t": n * 3001, "z": n * 2003, "c": n % 3} for n in range(20)],
}


@contextmanager
def little(seconds: float = 1.0, megabytes: float = 60) -> Iterator[None]:
    """Fail when the block takes long, or much memory."""
    tracemalloc.start()
    started = time.perf_counter()
    yield
    took = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < megabytes * 1e6, f"{peak / 1e6:.0f} MB"
    # a machine that does ten other things is ten times as slow, and 10⁸ steps take minutes
    assert took < 10 * seconds, f"{took:.1f} s"


def frame(index: dict[str, int]) -> np.ndarray:
    return stamp({axis: i % 50_000 for axis, i in index.items()}, (32, 32), "uint16")


def recorded(fmt: str, case: str, folder: Path) -> Any:
    writer = new_writer(fmt, folder)
    writer.begin(32, 32)
    for index in PLACES[case]:
        writer.add_frame(frame(index), index=index)
    return writer


def check_pixels(dataset: Any, case: str) -> None:
    for index in PLACES[case]:
        at = {"t": 0, "c": 0, "z": 0, **index}
        assert np.array_equal(dataset.read_image(**at), frame(index))
        assert np.array_equal(np.asarray(dataset.as_array(axes=[], **at)), frame(index))
        found = dataset.read_metadata(**at)["mda_writers"]["index"]
        assert found == index


def sparse_cases() -> list[Any]:
    # a stack is a file of its own there: a place far out along z is a large file
    return [
        (fmt, case)
        for fmt in FORMATS
        for case in PLACES
        if fmt != "tiff_series" or case in ("t", "only_one")
    ]


@pytest.mark.parametrize(("fmt", "case"), sparse_cases())
def test_few_frames_far_out_are_written_and_read_at_once(
    fmt: str, case: str, tmp_path: Path
) -> None:
    with little(seconds=3, megabytes=150):
        writer = recorded(fmt, case, tmp_path)
        report = writer.finish()
    frames = len(PLACES[case])
    assert (report.complete, report.frames_written, report.missing) == (True, frames, [])
    on_disk = sum(f.stat().st_blocks * 512 for f in tmp_path.rglob("*") if f.is_file())
    assert on_disk < 30e6
    with little(seconds=0.3), open_dataset(writer.path) as dataset:
        assert len(dataset.image_coordinates) == frames
        assert dataset.missing == []
        assert repr(dataset)
        sizes = {a: 1 + max(i.get(a, 0) for i in PLACES[case]) for a in "tcz"}
        assert {a: n for a, n in dataset.sizes.items() if a in "tcz"} == sizes
    with little(megabytes=150), open_dataset(writer.path) as dataset:
        check_pixels(dataset, case)
        assert dataset.to_xarray().shape == dataset.shape
        assert len(dataset.frames) == frames
        if case not in ("t", "only_one"):
            return
        whole = dataset.as_array()
        assert whole.shape == dataset.shape
        far = {"t": 0, "c": 0, "z": 0, **PLACES[case][-1]}
        at = tuple(far.get(axis, slice(None)) for axis in dataset.sizes)
        assert np.array_equal(np.asarray(whole[at]), frame(PLACES[case][-1]))
        assert np.array_equal(dataset.isel(**far), frame(PLACES[case][-1]))
    with little():
        assert verify(writer.path, progress=False).ok


@pytest.mark.parametrize("case", ["t", "t_and_z"])
@pytest.mark.parametrize("fmt", ["ome_tiff", "zarr_05"])
def test_a_recording_that_goes_on_or_was_interrupted_is_read_and_recovered(
    fmt: str, case: str, tmp_path: Path
) -> None:
    writer = recorded(fmt, case, tmp_path / "live")
    assert writer.frame_metadatas is not None  # returns when all frames are on disk
    with little(), open_dataset(writer.path) as live:
        check_pixels(live, case)
        assert live.missing == []
    with open_dataset(writer.path) as following:
        shutil.copytree(tmp_path / "live", tmp_path / "torn")
        writer.add_frame(frame({"t": 7}), index={"t": 7})
        writer.finish()
        assert following.refresh() == [{"t": 7, "c": 0, "z": 0}]
        check_pixels(following, case)
    torn = tmp_path / "torn" / writer.path.name
    with little():
        assert recover(torn).frames_written == 3
    with open_dataset(torn) as dataset:
        check_pixels(dataset, case)


@pytest.mark.parametrize("name", ["b.ome.zarr", "b.ome.tiff"])
def test_such_a_recording_is_converted(name: str, tmp_path: Path) -> None:
    writer = recorded("ome_tiff", "t", tmp_path)
    writer.finish()
    with little(seconds=5, megabytes=150):
        convert(writer.path, tmp_path / name, progress=False)
    with open_dataset(tmp_path / name) as dataset:
        check_pixels(dataset, "t")


def test_events_of_a_list_may_lie_far_apart(core: CMMCorePlus, tmp_path: Path) -> None:
    indices = [{"t": 0}, {"t": 40_000, "z": 50_000}, {"t": 2, "z": 1}]
    events = [useq.MDAEvent(index=index) for index in indices]
    core.mda.set_engine(StampedEngine(core))
    (report,) = record(core, events, BigTiffWriter(tmp_path / "a.ome.tiff"), progress=False)
    assert report.complete
    with little(), open_dataset(tmp_path / "a.ome.tiff") as dataset:
        for index in indices:
            check_stamp(dataset.read_image(**{"z": 0, **index}), index)


@pytest.mark.parametrize(
    "index", [{"t": 10**18}, {"t": 10**40}, {"c": 10**6}, {"z": 2**62, "t": 9}]
)
def test_an_index_that_no_file_can_hold_ends_the_recording_with_a_sentence(
    index: dict[str, int], tmp_path: Path
) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    writer.begin(32, 32)
    writer.add_frame(frame({"t": 0}), index={"t": 0})
    writer.add_frame(frame({"t": 1}), index=index)
    with pytest.raises(FrameError, match="lies too far out"):
        writer.finish()
    with open_dataset(tmp_path / "a.ome.tiff") as dataset:
        assert len(dataset.image_coordinates) == 1
