"""Files of several positions link to each other: every reader finds each image's own pixels."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import ome_types
import pytest
import tifffile
import useq
import zarr
from bioio import BioImage

from engine import StampedEngine
from mda_writers import BigTiffWriter, convert, open_dataset, record, recover, verify
from plans import Plan, engine_for, plans_named
from stamps import check_stamp, read_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = [
    pytest.mark.usefixtures("no_thread_left"),
    # bioio's own way of calling ome-types
    pytest.mark.filterwarnings("ignore:As of version 0.4.0"),
    # tifffile's, of every image of one plane in another file; it opens the file then
    pytest.mark.filterwarnings("ignore:.*reading array from closed file:UserWarning"),
]

SEQUENCE = useq.MDASequence(
    axis_order="tpcz",
    stage_positions=[(10, 20, 3), useq.Position(x=-4, y=5, z=6, name="β/2"), (0, 0, 0)],
    channels=["DAPI", "FITC"],
    z_plan=useq.ZRangeAround(range=1.5, step=0.75),
)

SETS = plans_named(
    "order_tpcz",
    "order_tpgcz",
    "order_czgpt",
    "ragged_in_everything",
    "queue_growing_in_odd_order",
    "events_with_large_indices",
    "names_in_unicode",
    "two_cameras",
    "cameras_of_three_sizes",
    "rgb",
    "odd_frame_size",
    "repeating_events_in_a_list",
)


def images_of(path: Path) -> list[tuple[int, Path]]:
    """Return number and own file of each image that the description of a file names."""
    with tifffile.TiffFile(path) as tif:
        described = ome_types.from_xml(tif.ome_metadata or "", validate=True)
    files = [image.pixels.tiff_data_blocks[0].uuid.file_name for image in described.images]
    return list(enumerate(path.with_name(str(file)) for file in files))


def own_pixels(path: Path) -> np.ndarray:
    """Return the pixels of a file, by a reader that has no other file to take them from."""
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        missing = np.zeros(series.keyframe.shape, series.dtype)
        pages = [missing if page is None else page.asarray() for page in series.pages]
        return np.stack(pages).reshape(series.shape)


def check_readers(folder: Path, pattern: str = "*.ome.tif*", with_bioio: bool = True) -> int:
    """Compare every image of every file with its own file's pixels; return how many there were."""
    count = 0
    files = [f for f in sorted(folder.glob(pattern)) if f.name.endswith((".tif", ".tiff"))]
    for path in files:
        for number, own in images_of(path):
            if own.exists():
                check_image(path, number, own_pixels(own), with_bioio)
            count += 1
    return count


def check_image(path: Path, number: int, expected: np.ndarray, with_bioio: bool) -> None:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[number]
        # of an image that grows, the others know a part
        expected = expected[: series.shape[0]] if expected.ndim == series.ndim else expected
        np.testing.assert_array_equal(series.asarray(), expected)
        for mode in (None, "page"):
            with series.aszarr(chunkmode=mode) as store:
                np.testing.assert_array_equal(zarr.open(store, mode="r")[...], expected)
    if with_bioio:
        check_bioio(path, number, expected)


def check_bioio(path: Path, number: int, expected: np.ndarray) -> None:
    image = BioImage(path)
    image.set_scene(number)
    for pixels in (image.data, image.dask_data.compute(scheduler="synchronous")):
        # its axes are always TCZYX, in whatever order they were taken
        assert sorted(map(_checksum, planes_in(pixels, expected))) == sorted(
            map(_checksum, planes_in(expected, expected))
        )


def planes_in(pixels: np.ndarray, like: np.ndarray) -> Iterator[np.ndarray]:
    shape = like.shape[-3:] if like.shape[-1] == 3 else like.shape[-2:]
    return iter(np.asarray(pixels).reshape(-1, *shape))


def _checksum(plane: np.ndarray) -> bytes:
    return plane.tobytes()


@pytest.mark.sample(3)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=["plain", "compressed"])
@pytest.mark.parametrize("plan", SETS, ids=str)
def test_every_image_of_every_file_is_the_right_one(
    plan: Plan, options: dict[str, Any], core: CMMCorePlus, tmp_path: Path
) -> None:
    if options and plan.name not in ("order_tpcz", "rgb", "queue_growing_in_odd_order"):
        pytest.skip("compressed planes have no places that readers could guess")
    core.mda.set_engine(engine_for(plan, core))
    record(core, plan.events(), BigTiffWriter(tmp_path / "x.ome.tif", **options), progress=False)
    # bioio opens no image with time points at which nothing was taken
    gaps = plan.name in ("events_with_large_indices", "repeating_events_in_a_list")
    assert check_readers(tmp_path, with_bioio=not gaps) >= 1
    assert verify(tmp_path / "x.ome.tif", progress=False).intact


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("shape", [(17, 33), (64, 2048), (32, 32, 3)], ids=str)
def test_images_of_few_planes_are_the_right_ones(
    planes: int, shape: tuple[int, ...], core: CMMCorePlus, tmp_path: Path
) -> None:
    sequence = useq.MDASequence(
        stage_positions=[(0, 0), (1, 0), (2, 0)],
        time_plan={"interval": 0, "loops": planes},
    )
    core.mda.set_engine(StampedEngine(core, frame_shape=shape, dtype="uint8"))
    record(core, sequence, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    assert check_readers(tmp_path) == 9
    with open_dataset(tmp_path / "x.ome.tif") as dataset:
        for index in np.ndindex(planes, 3):
            index = dict(zip("tp", index, strict=True))
            check_stamp(dataset.read_image(**index), index)
    assert verify(tmp_path / "x.ome.tif", progress=False).intact


def test_lines_of_one_row_are_the_right_ones(tmp_path: Path) -> None:
    for planes in (1, 2):
        path = tmp_path / f"line{planes}.ome.tif"
        writer = BigTiffWriter(path)
        writer.begin(64, 1, dtype="uint16", sizes={"t": planes, "p": 2})
        for t, p in np.ndindex(planes, 2):
            writer.add_frame(np.full((1, 64), 10 * t + p + 1, "uint16"), index={"t": t, "p": p})
        writer.finish()
        assert check_readers(tmp_path, f"line{planes}*.tif", with_bioio=False) >= 2
        assert verify(path, progress=False).intact


@pytest.mark.parametrize("after", [1, 2, 5, 9])
@pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
def test_a_canceled_run_shows_the_right_images(
    after: int, planned: bool, core: CMMCorePlus, tmp_path: Path
) -> None:
    sequence = SEQUENCE.replace(axis_order="tpcz", z_plan=None)

    def cancel(number: int) -> None:
        if number == after:
            core.mda.cancel()

    core.mda.set_engine(StampedEngine(core, on_frame=cancel))
    events = sequence if planned else list(sequence)
    record(core, events, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    assert check_readers(tmp_path) >= 1
    assert verify(tmp_path / "x.ome.tif", progress=False).intact


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_killed_run_shows_the_right_images_before_and_after_recover(
    frames: int, planned: bool, tmp_path: Path
) -> None:
    live, torn = tmp_path / "live", tmp_path / "torn"
    live.mkdir()
    writer = BigTiffWriter(live / "x.ome.tif")
    writer.begin(32, 32, dtype="uint16", sizes={"t": 3, "p": 3} if planned else None)
    for n in range(frames):
        index = {"t": n // 3, "p": n % 3}
        writer.add_frame(stamp(index, (32, 32), "uint16"), index=index)
        writer.isel(**index)  # returns when it is in its file
        if planned or n % 3 == 0:
            check_readers(live)
    shutil.copytree(live, torn)
    writer.finish()
    check_readers(live)
    check_readers(torn)
    recover(torn / "x.ome.tif")
    check_readers(torn)
    assert verify(torn / "x.ome.tif", progress=False).intact


def test_converted_sets_show_the_right_images(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    record(core, SEQUENCE, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    convert(tmp_path / "x.ome.tif", tmp_path / "y.ome.tif", progress=False)
    assert check_readers(tmp_path, "y_*.tif") == 9


def test_each_file_describes_the_planes_of_all_images(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, move=True))
    record(core, SEQUENCE, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    positions = {"p0": 10, "β/2": -4, "p2": 0}
    for path in tmp_path.glob("x_*.tif"):
        with tifffile.TiffFile(path) as tif:
            described = ome_types.from_xml(tif.ome_metadata or "", validate=True)
        assert {image.name for image in described.images} == positions.keys()
        for image in described.images:
            assert len(image.pixels.planes) == 6
            for plane in image.pixels.planes:
                assert plane.delta_t is not None
                assert plane.exposure_time is not None
                assert plane.position_x == pytest.approx(positions[str(image.name)], abs=0.01)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=["plain", "compressed"])
def test_a_file_that_is_sent_alone_knows_its_channels_and_sizes(
    options: dict[str, Any], core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    record(core, SEQUENCE, BigTiffWriter(tmp_path / "x.ome.tif", **options), progress=False)
    for file, p in {"x_p0.ome.tif": 0, "x_β-2.ome.tif": 1}.items():
        alone = tmp_path / f"alone{p}" / "renamed.ome.tif"
        alone.parent.mkdir()
        shutil.copy(tmp_path / file, alone)
        with open_dataset(alone) as dataset:
            assert dataset.sizes == {"c": 2, "z": 3, "y": 32, "x": 32}
            assert list(dataset.channels) == ["DAPI", "FITC"]
            assert dataset.pixel_size_um == 0.5
            assert not dataset.complete
            check_stamp(dataset.read_image(c="FITC", z=2), {"p": p, "c": 1, "z": 2})


def test_a_single_position_stays_in_one_piece_for_memory_maps(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    sequence = SEQUENCE.replace(stage_positions=[(1, 2, 3)])
    record(core, sequence, BigTiffWriter(tmp_path / "x.ome.tif"), progress=False)
    record(core, list(sequence.replace(stage_positions=[])), BigTiffWriter(tmp_path / "y.ome.tif"))
    for name in ("x", "y"):
        mapped = tifffile.memmap(tmp_path / f"{name}.ome.tif", mode="r")
        assert read_stamp(mapped.reshape(-1, 32, 32)[-1])["c"] == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # tifffile's, of the file that is missing
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=["plain", "compressed"])
@pytest.mark.parametrize("beside", ["another set", "nothing"])
def test_a_copy_beside_another_set_of_the_same_names_never_shows_its_pixels(
    beside: str, options: dict[str, Any], core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    record(core, SEQUENCE, BigTiffWriter(tmp_path / "a/x.ome.tif", **options), progress=False)
    other = SEQUENCE.replace(channels=["Cy5", "Rhodamine"])
    record(core, other, BigTiffWriter(tmp_path / "b/x.ome.tif", **options), progress=False)
    if beside == "nothing":
        for file in (tmp_path / "b").iterdir():
            file.unlink()
    copied = tmp_path / "b" / "yesterday.ome.tif"
    shutil.copy(tmp_path / "a" / "x_p0.ome.tif", copied)
    with open_dataset(copied) as dataset:
        assert dataset.sizes == {"c": 2, "z": 3, "y": 32, "x": 32}
        assert list(dataset.channels) == ["DAPI", "FITC"]
        check_stamp(dataset.read_image(c="FITC", z=2), {"p": 0, "c": 1, "z": 2})
        assert not dataset.complete
        assert dataset.missing == [
            {"p": p, "c": c, "z": z}
            for p in ("β/2", "p2")
            for c in ("DAPI", "FITC")
            for z in range(3)
        ]
