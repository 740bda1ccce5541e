"""A recording as arrays: in any order of axes, at any level, side by side, and labelled."""

from __future__ import annotations

import gc
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import zarr

from mda_writers import BigTiffWriter, OMEZarrWriter, open_dataset, record
from mda_writers.errors import CoordinateError
from mda_writers.formats.zarr.pyramid import halve
from plans import FIELD, seq
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from mda_writers import Dataset

SIZES = {"p": 2, "t": 4, "c": 2, "z": 3}
MISSING = {"p": 1, "t": 2, "c": 0, "z": 1}


@pytest.fixture(autouse=True)
def no_pool() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Dataset]:
    """Give a recording of two positions that lacks one frame."""
    writer = BigTiffWriter(tmp_path / "exp.ome.tif")
    writer.begin(
        40, 32, False, dtype="uint16", sizes=SIZES, channels=["DAPI", "FITC"],
        pixel_size_um=0.5, z_step_um=2.0, time_interval_s=10.0, metadata={"sample": "A"},
    )  # fmt: skip
    for place in np.ndindex(*SIZES.values()):
        index = dict(zip(SIZES, place, strict=True))
        if index != MISSING:
            writer.add_frame(stamp(index, (32, 40), "uint16"), index=index, metadata=index)
    writer.finish()
    with open_dataset(tmp_path / "exp.ome.tif") as opened:
        yield opened


def test_what_there_is_is_told_by_its_names(dataset: Dataset) -> None:
    assert dataset.axes == {
        "p": ("p0", "p1"), "t": (0, 1, 2, 3), "c": ("DAPI", "FITC"), "z": (0, 1, 2),
    }  # fmt: skip
    assert dataset.sizes == {**SIZES, "y": 32, "x": 40}
    assert dataset.shape == (2, 4, 2, 3, 32, 40)
    assert dataset.nbytes == 48 * 32 * 40 * 2
    assert dataset.dtype == np.uint16
    assert dataset.channels == ["DAPI", "FITC"]
    assert dataset.positions == ["p0", "p1"]
    assert dataset.pixel_size_um == 0.5
    assert dataset.voxel_size_um == (2.0, 0.5, 0.5)
    assert dataset.summary_metadata == {"sample": "A"}
    assert not dataset.complete
    assert dataset.missing == [{"p": "p1", "t": 2, "c": "DAPI", "z": 1}]
    assert "47" in dataset.summary()["frames"]


def test_a_frame_is_named_by_names_indices_and_long_words(dataset: Dataset) -> None:
    for coords in (
        {"p": 1, "t": 3, "c": 1, "z": 2},
        {"position": "p1", "time": 3, "channel": "FITC", "z": 2},
        {"p": np.int64(1), "t": np.uint8(3), "c": "FITC", "z": 2},
    ):
        check_stamp(dataset.read_image(**coords), {"p": 1, "t": 3, "c": 1, "z": 2})
        assert dataset.read_metadata(**coords)["t"] == 3


@pytest.mark.parametrize(
    ("coords", "text"),
    [
        ({"p": 0, "t": 0, "c": 0, "z": 0, "w": 0}, r"no axis 'w'; there is p, t, c, z"),
        ({"p": 0, "t": 4, "c": 0, "z": 0}, r"no t=4; there is 0, 1, 2, 3"),
        ({"p": 0, "t": -1, "c": 0, "z": 0}, r"no t=-1; there is"),
        ({"p": 0, "t": 0, "c": "Cy5", "z": 0}, r"no channel called 'Cy5'.*DAPI, FITC"),
        (
            {"p": "left", "t": 0, "c": 0, "z": 0},
            r"no position called 'left'; there is p0, p1",
        ),
        ({"p": 0, "t": 0, "c": 0}, r"Say which z: 0, 1, 2"),
        ({"t": 0, "c": 0, "z": 0}, r"Say which p: p0, p1"),
        ({"p": 0, "t": 1.0, "c": 0, "z": 0}, r"no t=1.0"),
        ({"p": 0, "t": True, "c": 0, "z": 0}, r"no t=True"),
        (MISSING, r"not on disk.*missing"),
    ],
)
def test_what_does_not_exist_is_an_error_that_lists_what_does(
    dataset: Dataset, coords: dict[str, Any], text: str
) -> None:
    with pytest.raises(CoordinateError, match=text):
        dataset.read_image(**coords)
    with pytest.raises(CoordinateError, match=text):
        dataset.read_metadata(**coords)


def test_has_image_answers_and_refuses_unknown_axes(dataset: Dataset) -> None:
    assert dataset.has_image(p=0, t=0, c="DAPI", z=0)
    assert not dataset.has_image(**MISSING)
    assert not dataset.has_image(p=0, t=99, c=0, z=0)
    with pytest.raises(CoordinateError, match="no axis 'w'"):
        dataset.has_image(w=0)


def test_the_array_has_any_order_of_axes_and_any_part(dataset: Dataset) -> None:
    whole = dataset.as_array(fill_value=7).compute()
    assert (whole[1, 2, 0, 1] == 7).all()
    order = dataset.as_array(axes=["z", "t", "channel", "p"], fill_value=7).compute()
    np.testing.assert_array_equal(order, whole.transpose(3, 1, 2, 0, 4, 5))
    part = dataset.as_array(c="FITC", t=slice(1, 3), z=[2, 0], y=slice(3, 9), x=-1)
    np.testing.assert_array_equal(
        part.compute(),
        dataset.as_array().compute()[:, 1:3, 1, :, 3:9, -1][:, :, [2, 0]],
    )
    one = dataset.as_array(axes=["t"], p="p0", c="DAPI", z=2)
    assert one.shape == (4, 32, 40)
    with pytest.raises(CoordinateError, match="Axis z has 3 values"):
        dataset.as_array(axes=["t"], p="p0", c="DAPI")
    with pytest.raises(CoordinateError, match="the axes here are p, t, c, z"):
        dataset.as_array(axes=["t", "w"], p="p0")
    with pytest.raises(CoordinateError, match="c is chosen by one value"):
        dataset.as_array(axes=["t", "c"], c=0)


def test_isel_is_numpy_on_the_whole_array(dataset: Dataset) -> None:
    whole = dataset.as_array().compute()
    np.testing.assert_array_equal(dataset.isel(), whole)
    np.testing.assert_array_equal(
        dataset.isel(t=-1, channel=0, z=slice(None, None, 2), y=5),
        whole[:, -1, 0, ::2, 5],
    )
    np.testing.assert_array_equal(dataset.isel({"p": 1}, x=slice(2, 30, 3)), whole[1, ..., 2:30:3])
    with pytest.raises(CoordinateError, match="no axis 'q'"):
        dataset.isel(q=0)


def test_what_is_returned_may_be_written_to(dataset: Dataset) -> None:
    frame = dataset.read_image(p=0, t=0, c=0, z=0)
    frame[:] = 0
    check_stamp(dataset.read_image(p=0, t=0, c=0, z=0), dict.fromkeys(SIZES, 0))
    dataset.isel(p=0)[:] = 0
    check_stamp(dataset.read_image(p=0, t=0, c=0, z=0), dict.fromkeys(SIZES, 0))


def test_an_array_of_a_million_frames_is_a_few_thousand_tasks(dataset: Dataset) -> None:
    from mda_writers.dataset.arrays import MOST_CHUNKS, frames_a_chunk

    for sizes, frame_bytes in [
        ((1000, 1000), 32768),
        ((10**6,), 8 << 20),
        ((7, 3), 10**9),
    ]:
        chunks = frames_a_chunk(sizes, frame_bytes)
        count = np.prod([-(-n // c) for n, c in zip(sizes, chunks, strict=True)])
        assert count <= 2 * MOST_CHUNKS
    assert dataset.as_array().npartitions <= 2


def test_to_xarray_has_seconds_micrometers_and_names(dataset: Dataset) -> None:
    pytest.importorskip("xarray")
    array = dataset.to_xarray()
    assert array.dims == ("p", "t", "c", "z", "y", "x")
    assert array.t.values.tolist() == [0.0, 10.0, 20.0, 30.0]
    assert array.z.values.tolist() == [0.0, 2.0, 4.0]
    assert array.x.values[:3].tolist() == [0.0, 0.5, 1.0]
    assert array.t.attrs["units"] == "s"
    assert array.z.attrs["units"] == "µm"
    chosen = array.sel(p="p1", t=30.0, c="FITC", z=4.0)
    check_stamp(np.asarray(chosen), {"p": 1, "t": 3, "c": 1, "z": 2})


def test_frames_is_a_table_with_a_row_a_frame(dataset: Dataset) -> None:
    pandas = pytest.importorskip("pandas")
    table = dataset.frames
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 47
    row = table[(table.p == "p1") & (table.c == "FITC")].iloc[0]
    check_stamp(
        dataset.read_image(p=row.p, t=int(row.t), c=row.c, z=int(row.z)),
        {"p": 1, "c": 1, "t": int(row.t), "z": int(row.z)},
    )
    assert {"mda_writers.number", "mda_writers.xxh3_64"} <= set(table.columns)


# ---------------------------------------------------------------- levels


def test_levels_that_no_file_has_are_computed(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 1 << 16, (700, 901)).astype(np.uint16)
    writer = BigTiffWriter(tmp_path / "exp.ome.tif")
    writer.begin(901, 700, False, dtype="uint16", sizes={"t": 1})
    writer.add_frame(picture)
    writer.finish()
    with open_dataset(tmp_path / "exp.ome.tif") as dataset:
        assert dataset.shapes == [(1, 700, 901), (1, 350, 451), (1, 175, 226)]
        assert dataset.levels == 3
        half = halve(picture)
        np.testing.assert_array_equal(dataset.read_image(t=0, level=1), half)
        np.testing.assert_array_equal(dataset.isel(level=2)[0], halve(half))
        np.testing.assert_array_equal(dataset.as_array(level=1).compute()[0], half)
        with pytest.raises(CoordinateError, match="no level 3; there are 0 to 2"):
            dataset.as_array(level=3)


def test_levels_that_are_stored_are_read(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 1 << 16, (600, 400)).astype(np.uint16)
    writer = OMEZarrWriter(tmp_path / "exp.zarr", levels=2)
    writer.begin(400, 600, False, dtype="uint16", sizes={"t": 1})
    writer.add_frame(picture)
    writer.finish()
    with open_dataset(tmp_path / "exp.zarr") as dataset:
        assert [shape[-2:] for shape in dataset.shapes] == [
            (600, 400),
            (300, 200),
            (150, 100),
        ]
        np.testing.assert_array_equal(dataset.read_image(level=1), halve(picture))
        np.testing.assert_array_equal(dataset.read_image(level=2), halve(halve(picture)))


# ---------------------------------------------------------------- stitching

WORLD = np.random.default_rng(1).integers(1, 1 << 16, (300, 300)).astype(np.uint16)
TILE = 32  # pixels; 0.5 µm each


class WorldEngine:
    """Takes frames out of `WORLD` at the stage's planned position."""

    def __new__(cls, core: CMMCorePlus) -> Any:
        from engine import StampedEngine

        class Engine(StampedEngine):
            def exec_event(self, event: Any) -> Any:
                for _, sub_event, meta in super().exec_event(event):
                    row = round(150 - event.y_pos / 0.5) - TILE // 2  # y grows upwards
                    column = round(150 + event.x_pos / 0.5) - TILE // 2
                    yield (
                        WORLD[row : row + TILE, column : column + TILE].copy(),
                        sub_event,
                        meta,
                    )

        return Engine(core, frame_shape=(TILE, TILE))


def recorded_world(core: CMMCorePlus, path: Path, **plans: Any) -> Dataset:
    core.mda.set_engine(WorldEngine(core))
    record(
        core,
        seq(channels=["DAPI", "FITC"], **plans),
        BigTiffWriter(path),
        progress=False,
    )
    return open_dataset(path)


@pytest.mark.parametrize("overlap", [0, 25])
def test_a_stitched_grid_is_the_world_that_it_was_taken_of(
    overlap: int, core: CMMCorePlus, tmp_path: Path
) -> None:
    grid = {
        "rows": 3,
        "columns": 4,
        "overlap": overlap,
        "mode": "row_wise_snake",
        **FIELD,
    }
    with recorded_world(
        core,
        tmp_path / "exp.ome.tif",
        stage_positions=[(5.0, -3.0, 0.0)],
        grid_plan=grid,
    ) as dataset:
        step = TILE * (100 - overlap) // 100
        stitched = dataset.as_array(stitched=True, c="FITC").compute()
        assert stitched.shape == (2 * step + TILE, 3 * step + TILE)
        x, y, _ = dataset._images[0].position_um
        top, left = round(150 - y / 0.5) - TILE // 2, round(150 + x / 0.5) - TILE // 2
        world = WORLD[top : top + stitched.shape[0], left : left + stitched.shape[1]]
        np.testing.assert_array_equal(stitched, world)
        both = dataset.as_array(axes=["c"], stitched=True)
        np.testing.assert_array_equal(both[0, 10:50, 20:90:3].compute(), world[10:50, 20:90:3])
        np.testing.assert_array_equal(both[1].compute(), world)
        tile = dataset.read_image(row=1, col=2, c="DAPI")
        np.testing.assert_array_equal(tile, world[step : step + TILE, 2 * step : 2 * step + TILE])
        with pytest.raises(CoordinateError, match=r"row=3.*\(0, 0\), \(0, 1\)"):
            dataset.read_image(row=3, col=0, c=0)


def test_stitched_positions_leave_gaps_as_fill(core: CMMCorePlus, tmp_path: Path) -> None:
    positions = [(0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (0.0, 25.0, 0.0)]
    with recorded_world(core, tmp_path / "exp.ome.tif", stage_positions=positions) as dataset:
        stitched = dataset.as_array(stitched=True, c=0, fill_value=9).compute()
        assert stitched.shape == (50 + TILE, 60 + TILE)
        top, left = 150 - 50 - TILE // 2, 150 - TILE // 2
        world = WORLD[top : top + 50 + TILE, left : left + 60 + TILE].copy()
        covered = np.zeros(world.shape, bool)
        covered[50:, :TILE] = covered[50:, 60:] = covered[:TILE, :TILE] = True
        np.testing.assert_array_equal(stitched, np.where(covered, world, 9))


def test_raw_shards_are_mapped_and_compressed_ones_are_not(tmp_path: Path) -> None:
    from mda_writers.formats.zarr.reader import layout_of

    for compression, mapped in ((None, True), ("zstd", False)):
        path = tmp_path / f"{compression}.zarr"
        writer = OMEZarrWriter(path, compression=compression, shards={"t": 3})
        writer.begin(24, 16, False, dtype="uint16", sizes={"t": 8, "c": 2})
        for t, c in np.ndindex(8, 2):
            writer.add_frame(stamp({"t": t, "c": c}, (16, 24), "uint16"))
        writer.finish()
        layout = layout_of(zarr.open_array(path / "0", mode="r"))
        assert layout is not None
        assert layout.mappable is mapped
        with open_dataset(path) as dataset:
            pixels = dataset.as_array().compute()
            for t, c in np.ndindex(8, 2):
                check_stamp(pixels[t, c], {"t": t, "c": c})
                check_stamp(dataset.read_image(t=t, c=c), {"t": t, "c": c})
            np.testing.assert_array_equal(dataset.isel(c=1, t=slice(1, 7, 2)), pixels[1:7:2, 1])


def test_arrays_travel_to_other_processes_and_are_read_by_several_threads(dataset: Dataset) -> None:
    array = dataset.as_array(fill_value=7)
    whole = array.compute()
    travelled = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(travelled.compute(), whole)
    with ThreadPoolExecutor(4) as pool, dask.config.set(pool=pool, scheduler="threads"):
        many = [dataset.as_array(fill_value=7).rechunk((1, 1, 1, 1, 32, 40)) for _ in range(4)]
        for again in dask.compute(*many):
            np.testing.assert_array_equal(again, whole)


def test_a_mosaic_has_levels_and_places_of_its_own_at_each(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    from engine import StampedEngine

    core.mda.set_engine(StampedEngine(core, frame_shape=(400, 512)))
    positions = [(0.0, 0.0, 0.0), (256.0, -100.0, 0.0)]  # µm: 512 and 200 pixels
    record(
        core, seq(stage_positions=positions), BigTiffWriter(tmp_path / "a.ome.tif"), progress=False
    )
    with open_dataset(tmp_path / "a.ome.tif") as dataset:
        small = dataset.as_array(stitched=True, level=1).compute()
        assert small.shape == (100 + 200, 512)
        left, right = (halve(dataset.read_image(p=n)) for n in range(2))
        np.testing.assert_array_equal(small[:200, :256], left)
        np.testing.assert_array_equal(small[100:, 256:], right)
        assert not small[200:, :256].any()
        assert not small[:100, 256:].any()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_array_that_is_dropped_lets_go_of_its_files(
    compression: str | None, tmp_path: Path
) -> None:
    """napari keeps lazy arrays and closes nothing."""
    writer = BigTiffWriter(tmp_path / "exp.ome.tif", compression=compression)
    writer.begin(40, 32, False, dtype="uint16", sizes={"p": 2})
    for p in range(2):
        writer.add_frame(stamp({"p": p}, (32, 40), "uint16"), index={"p": p})
    writer.finish()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.asarray(open_dataset(tmp_path / "exp.ome.tif").as_array())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
