"""NDTiff folders: what ndstorage wrote is read as it reads it, tiles and interrupted ones too."""

from __future__ import annotations

import gc
import io
import shutil
import warnings
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest

from mda_writers import open_dataset
from mda_writers.errors import CoordinateError, CorruptRecordingError, MissingFrameError

pytest.importorskip("ndstorage")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TILE, OVERLAP = 40, 8
STEP = TILE - OVERLAP
ROWS, COLUMNS, TIMES = range(-1, 3), range(2, 5), range(2)
MISSING = {(1, 3)}
WORLD = np.random.default_rng(0).integers(0, 1 << 16, (2, 200, 200)).astype(np.uint16)


@pytest.fixture(autouse=True)
def no_pool() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def write(folder: Path, frames: list[tuple[dict[str, Any], np.ndarray]], **summary: Any) -> Path:
    """Write frames with ndstorage, and return their folder."""
    from ndstorage.ndtiff_dataset import NDTiffDataset

    writer = NDTiffDataset(str(folder), name="nd", summary_metadata=summary, writable=True)
    for axes, pixels in frames:
        writer.put_image(axes, pixels, {"PixelSizeUm": 0.65, "axes": axes})
    with warnings.catch_warnings():
        # what ndstorage opens while it writes, it leaves to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        writer.finish()
        writer.close()
        del writer
        gc.collect()
    return next(folder.glob("nd*"))


def opened_by_ndstorage(folder: Path) -> Any:
    from ndstorage import Dataset

    with redirect_stdout(io.StringIO()):
        return Dataset(str(folder))


def tile_of(row: int, column: int, time: int = 0) -> np.ndarray:
    top, left = (row - ROWS[0]) * STEP, (column - COLUMNS[0]) * STEP
    return WORLD[time, top : top + TILE, left : left + TILE].copy()


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data set of overlapping tiles, one of them missing, as Micro-Manager lays it out."""
    frames = [
        ({"row": r, "column": c, "time": t, "channel": "DAPI"}, tile_of(r, c, t))
        for t in TIMES
        for r in ROWS
        for c in COLUMNS
        if (r, c) not in MISSING
    ]
    folder = tmp_path_factory.mktemp("tiles")
    made = write(
        tmp_path_factory.mktemp("made"),
        frames,
        GridPixelOverlapX=OVERLAP,
        GridPixelOverlapY=OVERLAP,
        PixelSizeUm=0.65,
    )
    made.rename(folder / "Full resolution")
    return folder


def test_tiles_keep_the_rows_and_columns_that_ndtiff_gave_them(tiles: Path) -> None:
    theirs = opened_by_ndstorage(tiles)
    with open_dataset(tiles) as dataset:
        assert dataset.axes["row"] == tuple(ROWS)
        assert dataset.axes["col"] == tuple(COLUMNS)
        assert dataset.pixel_size_um == 0.65
        for r in ROWS:
            for c in COLUMNS:
                where = {"row": r, "column": c, "time": 1}
                assert dataset.has_image(**where) is ((r, c) not in MISSING)
                if (r, c) not in MISSING:
                    frame = dataset.read_image(**where)
                    np.testing.assert_array_equal(frame, tile_of(r, c, 1))
                    np.testing.assert_array_equal(frame, theirs.read_image(channel="DAPI", **where))
                    assert frame.flags.writeable
                    assert dataset.read_metadata(**where)["axes"]["row"] == r
        with pytest.raises(MissingFrameError, match=r"no row=3; there is -1, 0, 1, 2"):
            dataset.read_image(row=3, column=2, time=0)
        with pytest.raises(CoordinateError, match="Say which col"):
            dataset.read_image(row=0, time=0)
        whole = dataset.as_array(axes=["time", "row", "column"], channel="DAPI").compute()
        assert whole.shape == (2, 4, 3, TILE, TILE)
        np.testing.assert_array_equal(whole[1, 2, 0], tile_of(1, 2, 1))
        assert not whole[0, 2, 1].any()
    theirs.res_levels[0].close()


def test_the_mosaic_is_the_world_without_the_missing_tile(tiles: Path) -> None:
    theirs = opened_by_ndstorage(tiles)
    with open_dataset(tiles) as dataset:
        mosaic = dataset.as_array(stitched=True, channel="DAPI", fill_value=7).compute()
        height, width = STEP * (len(ROWS) - 1) + TILE, STEP * (len(COLUMNS) - 1) + TILE
        assert mosaic.shape == (2, height, width)
        covered = np.zeros((height, width), bool)
        for r in range(len(ROWS)):
            for c in range(len(COLUMNS)):
                if (ROWS[r], COLUMNS[c]) not in MISSING:
                    covered[r * STEP : r * STEP + TILE, c * STEP : c * STEP + TILE] = True
        np.testing.assert_array_equal(mosaic, np.where(covered, WORLD[:, :height, :width], 7))
        # ndstorage cuts half of the overlap off each side of every tile, at the rim as well
        half = OVERLAP // 2
        cut = theirs.as_array(stitched=True, res_level=0, channel="DAPI", time=1).compute()
        inside = mosaic[1, half : height - half, half : width - half]
        hole = cut == 0
        assert hole.sum() <= STEP * STEP + 5
        np.testing.assert_array_equal(inside[~hole], cut[~hole])
    theirs.res_levels[0].close()


STACK = [({"time": t, "z": z}, WORLD[0, t * 30 : t * 30 + 20, z * 40 : z * 40 + 30].copy())
         for t in range(3) for z in range(2)]  # fmt: skip


def check_what_is_there(folder: Path) -> int:
    """Compare every frame that is told with the one that was written; return how many there are."""
    true = {tuple(axes.values()): pixels for axes, pixels in STACK}
    with open_dataset(folder) as dataset:
        for coords in dataset.image_coordinates:
            place = coords["t"], coords["z"]
            np.testing.assert_array_equal(dataset.read_image(**coords), true[place])
        found = len(dataset.image_coordinates)
        assert found + len(dataset.missing) <= 6
        return found


def test_an_index_that_is_cut_anywhere_tells_the_frames_before_the_cut(tmp_path: Path) -> None:
    folder = write(tmp_path, STACK)
    index = (folder / "NDTiff.index").read_bytes()
    entry = len(index) // 6
    assert check_what_is_there(folder) == 6
    for cut in range(0, len(index), 7):
        (folder / "NDTiff.index").write_bytes(index[:cut])
        if cut < entry:
            with pytest.raises(CorruptRecordingError, match=r"without a frame|opy it again"):
                open_dataset(folder)
        else:
            assert check_what_is_there(folder) == cut // entry
            with open_dataset(folder) as dataset:
                assert not dataset.complete or cut % entry == 0
    # as Micro-Manager leaves it while it writes, and when it was killed
    (folder / "NDTiff.index").write_bytes(index[: 4 * entry] + bytes(3 * entry))
    assert check_what_is_there(folder) == 4
    with open_dataset(folder) as dataset:
        assert not dataset.complete


def test_frames_whose_pixels_are_not_there_as_a_whole_are_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", STACK)
    tiff = next(folder.glob("*.tif"))
    for kept in (0.9, 0.5, 0.3):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        with (copy / tiff.name).open("r+b") as stream:
            stream.truncate(int(kept * tiff.stat().st_size))
        found = check_what_is_there(copy)
        assert 0 < found < 6
        with open_dataset(copy) as dataset:
            assert not dataset.complete
            assert len(dataset.missing) == 6 - found
            with pytest.raises(MissingFrameError, match="not on disk"):
                dataset.read_image(t=2, z=1)
    with open_dataset(folder) as dataset:
        with tiff.open("r+b") as stream:
            stream.truncate(1000)
        with pytest.raises(CorruptRecordingError, match="cut off"):
            dataset.read_image(t=2, z=1)


def test_a_folder_that_is_being_written_shows_what_has_come(tmp_path: Path) -> None:
    from ndstorage.ndtiff_dataset import NDTiffDataset

    writer = NDTiffDataset(str(tmp_path), name="nd", summary_metadata={}, writable=True)
    folder = next(tmp_path.glob("nd*"))
    for n, (axes, pixels) in enumerate(STACK):
        writer.put_image(axes, pixels, {"n": n})
        writer._index_file.flush()
        assert check_what_is_there(folder) <= n + 1
    assert check_what_is_there(folder) >= 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        writer.finish()
        writer.close()
        del writer
        gc.collect()
    assert check_what_is_there(folder) == 6


def test_frames_of_two_sizes_at_one_position_are_an_error_and_not_cut(tmp_path: Path) -> None:
    frames = [({"time": 0}, WORLD[0, :20, :30].copy()), ({"time": 1}, WORLD[0, :30, :20].copy())]
    folder = write(tmp_path, frames)
    with open_dataset(folder) as dataset:
        np.testing.assert_array_equal(dataset.read_image(t=0), frames[0][1])
        with pytest.raises(CorruptRecordingError, match="differ in shape"):
            dataset.as_array().compute()


def test_frames_of_8_bit(tmp_path: Path) -> None:
    pixels = (WORLD[0, :20, :30] >> 8).astype(np.uint8)
    with open_dataset(write(tmp_path, [({"time": 0}, pixels)])) as dataset:
        np.testing.assert_array_equal(dataset.read_image(t=0), pixels)
        assert dataset.dtype == np.uint8
