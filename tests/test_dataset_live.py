"""A recording is read by one process while another one writes it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from children.slow_recorder import SIZES
from mda_writers import BigTiffWriter, open_dataset
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers import Dataset

pytestmark = pytest.mark.usefixtures("no_thread_left")

CHILD = Path(__file__).parent / "children" / "slow_recorder.py"
FRAMES = int(np.prod(list(SIZES.values())))
WRITERS = {
    "exp.ome.tif": "mda_writers:BigTiffWriter",
    "exp.ome.zarr": "mda_writers:OMEZarrWriter",
}
if sys.platform == "win32":
    pytestmark = [pytestmark, pytest.mark.skip(reason="kills itself by a signal")]


@contextmanager
def recording(path: Path, planned: bool, die_at: int = -1) -> Iterator[subprocess.Popen[bytes]]:
    how = "planned" if planned else "open"
    args = [sys.executable, str(CHILD), WRITERS[path.name], str(path), how, str(die_at)]
    child = subprocess.Popen(args)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def opened(path: Path) -> Dataset:
    deadline = time.monotonic() + 30
    while True:
        try:
            return open_dataset(path)
        except FileNotFoundError:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def check(dataset: Dataset, coords: dict[str, object]) -> None:
    index = {axis: dataset.axes[axis].index(value) for axis, value in coords.items()}
    check_stamp(dataset.read_image(**coords), {a: index[a] for a in SIZES})
    assert dataset.read_metadata(**coords)["mda_writers"]["index"] == {a: index[a] for a in SIZES}


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "open-ended"])
@pytest.mark.parametrize("name", WRITERS)
def test_each_frame_is_told_once_and_is_whole_when_it_is_told(
    name: str, planned: bool, tmp_path: Path
) -> None:
    with recording(tmp_path / name, planned) as child, opened(tmp_path / name) as dataset:
        assert not dataset.complete
        told, while_it_ran = [], 0
        for coords in dataset.follow():
            check(dataset, coords)
            told.append(tuple(coords.values()))
            while_it_ran += child.poll() is None and not dataset.complete
        assert while_it_ran > FRAMES // 2
        assert len(told) == len(set(told)) == FRAMES
        assert dataset.complete
        assert dataset.missing == []
        assert not dataset.await_new_image(1)


@pytest.mark.parametrize("name", WRITERS)
def test_following_ends_when_the_writer_is_killed(name: str, tmp_path: Path) -> None:
    with recording(tmp_path / name, planned=True, die_at=20), opened(tmp_path / name) as dataset:
        told = list(dataset.follow())
        assert len(told) == 20
    with open_dataset(tmp_path / name) as again:
        assert not again.complete
        assert not again.is_live()
        assert len(again.image_coordinates) == 20
        assert len(again.missing) == FRAMES - 20
        for coords in again.image_coordinates:
            check(again, coords)


def test_waiting_for_a_frame_ends_in_time(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tif")
    writer.begin(32, 32, False, dtype="uint16", sizes={"t": 3})
    with open_dataset(writer) as dataset:
        assert dataset.path == tmp_path / "exp.ome.tif"
        assert dataset.is_live()
        assert len(dataset.image_coordinates) == 0
        started = time.monotonic()
        assert not dataset.await_new_image(0.1)
        assert 0.1 <= time.monotonic() - started < 5
        writer.add_frame(stamp({"t": 0}, (32, 32), "uint16"))
        assert dataset.await_new_image(10)
        check_stamp(dataset.read_image(t=0), {"t": 0})
        assert not dataset.has_image(t=1)
        writer.add_frame(stamp({"t": 1}, (32, 32), "uint16"))
        writer.finish()
        assert dataset.await_new_image(10)
        assert not dataset.is_live()
        check_stamp(dataset.read_image(t=1), {"t": 1})
        assert dataset.missing == [{"t": 2}]
        assert not dataset.complete


def test_a_writer_is_opened_at_the_name_that_its_last_run_took(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tif")
    for n in range(2):
        writer.begin(32, 32)
        writer.add_frame(stamp({"t": n}, (32, 32), "uint8"), index={"t": 0})
        writer.finish()
        with open_dataset(writer) as dataset:
            check_stamp(dataset.read_image(), {"t": n})


def test_a_new_frame_makes_nothing_anew_that_it_does_not_change(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tif")
    writer.begin(32, 32, False, dtype="uint16", sizes={"p": 2, "t": 3})
    with open_dataset(writer) as dataset:
        slots, coordinates = dataset.source.slots("p0"), dataset._coordinates
        assert (slots < 0).all()
        writer.add_frame(stamp({"p": 0, "t": 0}, (32, 32), "uint16"))
        assert dataset.await_new_image(10)
        assert dataset._coordinates is coordinates
        assert dataset.source.slots("p0").tolist() == [0, -1, -1]
        assert dataset.source.slots("p0") is slots  # of a million frames, too
        writer.finish()
        dataset.refresh()
        assert dataset.source.slots("p0").tolist() == [0]
        assert dataset.sizes["t"] == 1
