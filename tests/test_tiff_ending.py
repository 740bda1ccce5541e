"""The end of TIFF files, cut off at every step: they can be read, and the end can be repeated."""

from __future__ import annotations

import shutil
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from mda_writers import BigTiffWriter, TiffSeriesWriter, open_dataset, recover, verify
from mda_writers.formats.tiff import finish, series
from mda_writers.storage.block_file import BlockFile
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHAPE = (16, 24)


class Died(BaseException):
    """The process is gone."""


class DyingFile(BlockFile):
    """A file whose process dies at one of its changes: before it, or half-way through."""

    left = 0
    half_way = False

    def patch(self, offset: int, data: bytes | bytearray) -> None:
        self._live_on(lambda: super(DyingFile, self).patch(offset, data[: len(data) // 2]))
        super().patch(offset, data)

    def truncate(self, size: int) -> None:
        self._live_on(lambda: None)
        super().truncate(size)

    def sync(self) -> None:
        self._live_on(lambda: None)
        super().sync()

    def _live_on(self, half: object) -> None:
        DyingFile.left -= 1
        if DyingFile.left == 0:
            if DyingFile.half_way:
                half()  # type: ignore[operator]
            raise Died


def torn(folder: Path, name: str, sizes: Mapping[str, int] | None, taken: int) -> Path:
    """Return a recording that was killed after so many frames."""
    live = folder / "live"
    live.mkdir(parents=True)
    writer = TiffSeriesWriter(live, ome=True) if "." not in name else BigTiffWriter(live / name)
    writer.begin(SHAPE[1], SHAPE[0], dtype="uint16", sizes=sizes)
    for index in indices(sizes, taken):
        writer.add_frame(stamp(index, SHAPE, "uint16"), index=index)
        writer.isel(**index)
    shutil.copytree(live, folder / "torn")
    writer.finish()
    return folder / "torn" / name


def indices(sizes: Mapping[str, int] | None, taken: int) -> list[dict[str, int]]:
    if sizes is None:
        return [{"t": t} for t in range(taken)]
    every = np.ndindex(*sizes.values())
    return [dict(zip(sizes, place, strict=True)) for place in list(every)[:taken]]


RUNS: dict[str, tuple[str, dict[str, int] | None, int]] = {
    "whole": ("x.ome.tif", {"t": 3}, 3),
    "cut": ("x.ome.tif", {"t": 40, "c": 2}, 5),
    "cut, plain": ("x.tif", {"t": 40, "c": 2}, 5),
    "cut, the new end lies on the old one": ("x.ome.tif", {"t": 4}, 3),
    "grown": ("x.ome.tif", None, 3),
    "one plane of a set": ("x.ome.tif", {"t": 4, "p": 2}, 1),
    "a set": ("x.ome.tif", {"p": 2, "t": 4}, 7),
    "a series": ("run_000", {"t": 2, "z": 30}, 35),
    "a series of small stacks": ("run_000", {"t": 2, "z": 3}, 5),
}


@pytest.mark.parametrize("half_way", [False, True], ids=["before", "half-way"])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_recover_cut_off_at_any_step_leaves_files_whole_and_can_be_repeated(
    run: tuple[str, dict[str, int] | None, int],
    half_way: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, sizes, taken = run
    path = torn(tmp_path, name, sizes, taken)
    monkeypatch.setattr(finish, "BlockFile", DyingFile)
    monkeypatch.setattr(series, "BlockFile", DyingFile)
    for step in count(1):
        folder = tmp_path / f"step{step}"
        shutil.copytree(path.parent, folder)
        DyingFile.left, DyingFile.half_way = step, half_way
        try:
            recover(folder / name)
        except Died:
            check(folder, name, sizes, taken)
            DyingFile.left = 0
            recover(folder / name)
            assert check(folder, name, sizes, taken) == taken
            assert verify(folder / name, progress=False).intact
            shutil.rmtree(folder)
        else:
            assert step > 1
            return


def check(folder: Path, name: str, sizes: Mapping[str, int] | None, taken: int) -> int:
    """Check that all frames are there, for us and for tifffile; return how many it sees."""
    with open_dataset(folder / name) as dataset:
        for index in indices(sizes, taken):
            check_stamp(dataset.read_image(**index), index)
    found = 0
    for file in folder.rglob("*.tif"):
        with tifffile.TiffFile(file) as tif:
            if file.name.endswith(".ome.tif"):
                assert tif.is_ome
            found += sum(bool(page.asarray().any()) for page in tif.pages)
            tif.series[0].asarray()
    assert found >= taken  # there may be remains at places of frames that never came
    return found
