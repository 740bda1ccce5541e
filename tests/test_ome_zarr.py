"""What an OME-Zarr says about itself, its pyramids, its files, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import useq
import yaozarrs
import zarr

from mda_writers import OMEZarrWriter, record
from mda_writers.formats.zarr.options import level_sizes
from mda_writers.formats.zarr.pyramid import halve
from plans import NAMED, Plan, engine_for, plans_named
from stamps import stamp
from zarr_reading import read_with_tensorstore, read_with_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

VALIDATED = plans_named(
    "order_tpgcz",
    "order_gz",
    "single_frame",
    "time_loops",
    "ragged_in_everything",
    "wells_with_one_field",
    "wells_with_a_grid_of_fields",
    "wells_with_random_fields",
    "queue_growing_in_odd_order",
    "events_with_custom_axes",
    "skipped_position",
    "names_in_unicode",
    "cameras_of_other_sizes",
    "rgb_with_two_cameras",
    "float_32",
)


def run(plan: Plan, core: CMMCorePlus, path: Path, **options: Any) -> OMEZarrWriter:
    core.mda.set_engine(engine_for(plan, core))
    writer = OMEZarrWriter(path, **options)
    record(core, plan.events(), [writer], progress=False)
    return writer


def ome(path: Path) -> dict[str, Any]:
    """Return the attributes of a group, in either version."""
    attributes = dict(zarr.open_group(path, mode="r").attrs)
    return attributes.get("ome", attributes)


def transformations(path: Path, level: int = 0) -> tuple[list[float], list[float]]:
    """Return scale and translation of a level."""
    dataset = ome(path)["multiscales"][0]["datasets"][level]
    scale, translation = dataset["coordinateTransformations"]
    return scale["scale"], translation["translation"]


def groups_in(path: Path) -> list[Path]:
    """Return all groups of a store that say something about themselves."""
    found = [file.parent for name in ("zarr.json", ".zgroup") for file in path.rglob(name)]
    return [g for g in found if not list(g.glob(".zarray")) and _is_group(g) and ome(g)]


def _is_group(folder: Path) -> bool:
    return isinstance(zarr.open(folder, mode="r"), zarr.Group)


# ---------------------------------------------------------------- metadata


@pytest.mark.parametrize("plan", VALIDATED, ids=str)
def test_stores_are_valid_by_yaozarrs(plan: Plan, core: CMMCorePlus, tmp_path: Path) -> None:
    run(plan, core, tmp_path / "exp.ome.zarr", levels=3, z_factor=2)
    yaozarrs.validate_zarr_store(str(tmp_path / "exp.ome.zarr"))


@pytest.mark.parametrize("plan", VALIDATED, ids=str)
def test_metadata_of_0_4_are_valid_by_yaozarrs(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    run(plan, core, tmp_path / "exp.ome.zarr", levels=3, z_factor=2, ngff_version="0.4")
    groups = groups_in(tmp_path / "exp.ome.zarr")
    assert groups
    for group in groups:
        attributes = dict(zarr.open_group(group, mode="r").attrs)
        yaozarrs.validate_ome_object(attributes.get("ome", attributes))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_and_plates_are_valid_by_ome_zarr_models(
    version: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    models = pytest.importorskip("ome_zarr_models")
    for plan in VALIDATED:
        path = tmp_path / plan.name / "exp.ome.zarr"
        run(plan, core, path, levels=3, z_factor=2, ngff_version=version)
        for group in groups_in(path):
            if ome(group).keys() & {"multiscales", "plate", "well"}:
                models.open_ome_zarr(zarr.open_group(group, mode="r"))


def test_pixels_planes_and_time_points_have_their_size_and_place(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(Plan("", lambda: ()), core))
    sequence = useq.MDASequence(
        stage_positions=[(100, 50, 10), (-7.5, 0, 20)],
        time_plan={"interval": 0.001, "loops": 2},
        channels=["DAPI", "FITC"],
        z_plan={"range": 4, "step": 2},
    )
    writer = OMEZarrWriter(tmp_path / "exp.ome.zarr", levels=3)
    record(core, sequence, [writer], progress=False)
    for number, (x, y, z) in enumerate([(100, 50, 8), (-7.5, 0, 18)]):
        group = tmp_path / "exp.ome.zarr" / str(number)
        axes = ome(group)["multiscales"][0]["axes"]
        assert [(a["name"], a["type"], a.get("unit")) for a in axes] == [
            ("t", "time", "second"),
            ("c", "channel", None),
            ("z", "space", "micrometer"),
            ("y", "space", "micrometer"),
            ("x", "space", "micrometer"),
        ]
        assert transformations(group) == ([0.001, 1, 2, 0.5, 0.5], [0, 0, z, y, x])
        # the first pixel of a level lies in the middle of those that it is the mean of
        scale, translation = transformations(group, 2)
        assert (scale, translation) == ([0.001, 1, 2, 2, 2], [0, 0, z, y + 0.75, x + 0.75])
    assert ome(tmp_path / "exp.ome.zarr") == {"version": "0.5", "bioformats2raw.layout": 3}
    assert ome(tmp_path / "exp.ome.zarr" / "OME")["series"] == ["0", "1"]


def test_tiles_of_a_grid_lie_where_they_were_taken(core: CMMCorePlus, tmp_path: Path) -> None:
    plan = NAMED["grid_row_wise_relative"]
    run(plan, core, tmp_path / "exp.ome.zarr")
    positions = [(event.y_pos or 0, event.x_pos or 0) for event in plan.events()]
    found = [transformations(tmp_path / "exp.ome.zarr" / str(n))[1] for n in range(6)]
    assert [tuple(place) for place in found] == positions


def test_channels_have_names_colors_and_windows(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(engine_for(Plan("", lambda: (), bit_depth=12), core))
    writer = OMEZarrWriter(tmp_path / "exp.ome.zarr")
    sequence = useq.MDASequence(channels=["DAPI", "FITC", "Cy5"])
    record(core, sequence, [writer], progress=False)
    channels = ome(tmp_path / "exp.ome.zarr")["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in channels] == [
        ("DAPI", "0000FF"),
        ("FITC", "00FF00"),
        ("Cy5", "FF00FF"),
    ]
    for number, channel in enumerate(channels):
        plane = read_with_zarr(tmp_path / "exp.ome.zarr" / "0")[number]
        window = channel["window"]
        assert (window["min"], window["max"]) == (0, 4095)
        assert [window["start"], window["end"]] == list(np.percentile(plane, [0.1, 99.9]))


def test_wells_lie_by_row_column_and_field(core: CMMCorePlus, tmp_path: Path) -> None:
    plan = NAMED["wells_with_a_grid_of_fields"]
    run(plan, core, tmp_path / "exp.ome.zarr")
    plate = ome(tmp_path / "exp.ome.zarr")["plate"]
    assert [well["path"] for well in plate["wells"]] == ["A/1", "A/2", "B/3"]
    assert (len(plate["rows"]), len(plate["columns"]), plate["field_count"]) == (4, 6, 4)
    for well in plate["wells"]:
        images = ome(tmp_path / "exp.ome.zarr" / well["path"])["well"]["images"]
        assert [image["path"] for image in images] == ["0", "1", "2", "3"]
    name = ome(tmp_path / "exp.ome.zarr" / "B" / "3" / "1")["multiscales"][0]["name"]
    assert name == "B3_0001"


# ---------------------------------------------------------------- pyramids


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int8", "int16", "float32"])
@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (16, 17)])
def test_pyramid_is_the_exact_mean(dtype: str, shape: tuple[int, int], tmp_path: Path) -> None:
    writer = OMEZarrWriter(tmp_path / "exp.ome.zarr", levels=4)
    writer.begin(shape[1], shape[0], sizes={"t": 3})
    frames = [stamp({"t": t}, shape, dtype) for t in range(3)]
    for frame in frames:
        writer.add_frame(frame)
    writer.finish()
    for t, frame in enumerate(frames):
        expected = frame
        for level in range(4):
            found = read_with_zarr(tmp_path / "exp.ome.zarr" / str(level))
            assert found.dtype == frame.dtype
            np.testing.assert_array_equal(found[t], expected)
            expected = slow_mean(expected)


def slow_mean(plane: np.ndarray) -> np.ndarray:
    """Return the mean of 2 x 2, computed with numbers that have no limits."""
    padded = np.pad(plane, [(0, n % 2) for n in plane.shape], mode="edge")
    four = [padded[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    if plane.dtype.kind == "f":
        return (((four[0] + four[1]) + (four[2] + four[3])) / 4).astype(plane.dtype)
    total = sum(part.astype(object) for part in four)
    return (
        np.array([(value + 2) // 4 for value in total.flat], object)
        .reshape(total.shape)
        .astype(plane.dtype)
    )


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
)
def test_mean_overflows_nowhere(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(
        limits.min, limits.max, (38, 70), dtype, endpoint=True
    )
    values[:4, :4] = limits.max
    values[4:8, :4] = limits.min
    np.testing.assert_array_equal(halve(values), slow_mean(values))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_mean_of_the_largest_floats_is_no_infinity(dtype: str) -> None:
    largest = np.full((4, 4), np.finfo(dtype).max, dtype)
    np.testing.assert_array_equal(halve(largest), largest[:2, :2])


def test_auto_levels_end_at_256_pixels(tmp_path: Path) -> None:
    writer = OMEZarrWriter(tmp_path / "exp.ome.zarr", levels="auto")
    writer.begin(1100, 600)
    writer.add_frame(np.ones((600, 1100), np.uint8))
    writer.finish()
    shapes = [
        zarr.open_array(tmp_path / "exp.ome.zarr" / str(level), mode="r").shape[-2:]
        for level in range(len(ome(tmp_path / "exp.ome.zarr")["multiscales"][0]["datasets"]))
    ]
    assert shapes == [(600, 1100), (300, 550), (150, 275), (75, 138)]
    assert shapes == level_sizes((600, 1100), 4)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("options", [{}, {"levels": 3}, {"levels": 3, "z_factor": 2}], ids=str)
@pytest.mark.parametrize(
    "sizes", [{"t": 10_000}, {"t": 100, "c": 4, "z": 25}, {"z": 25, "t": 400}], ids=str
)
def test_ten_thousand_large_frames_make_hundreds_of_files(
    sizes: dict[str, int], options: dict[str, Any], tmp_path: Path
) -> None:
    # laid out as a whole, but with holes instead of 84 GB: no frame is known to be kept
    writer = OMEZarrWriter(
        tmp_path / "exp.ome.zarr", save_frame=lambda event, metadata: False, **options
    )
    writer.begin(2048, 2048, is_color=False, dtype="uint16", sizes=sizes)
    files = [file for file in (tmp_path / "exp.ome.zarr").rglob("*") if file.is_file()]
    full = [file for file in files if file.relative_to(tmp_path).parts[1] == "0"]
    assert sum(file.stat().st_size for file in full) >= 10_000 * 2048 * 2048 * 2
    assert 100 < len(files) < 400
    writer.add_frame(np.zeros((2048, 2048), np.uint16))
    writer.finish()


def test_compressed_recording_takes_only_the_room_it_needs(tmp_path: Path) -> None:
    for codec in ("blosc-lz4", "blosc-zstd", "zstd"):
        path = tmp_path / codec / "exp.ome.zarr"
        writer = OMEZarrWriter(path, compression=codec)
        writer.begin(256, 256, sizes={"t": 20})
        for t in range(20):
            writer.add_frame(np.full((256, 256), t, np.uint16))
        writer.finish()
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        assert size < 20 * 256 * 256 * 2 / 20
        for read in (read_with_zarr, read_with_tensorstore):
            assert read(path / "0")[:, 5, 5].tolist() == list(range(20))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_canceled_run_ends_with_its_true_shape(compression: str | None, tmp_path: Path) -> None:
    path = tmp_path / "exp.ome.zarr"
    writer = OMEZarrWriter(path, compression=compression, levels=2, shards={"t": 4, "c": 2})
    writer.begin(32, 32, sizes={"t": 1000, "c": 2}, dtype="uint16", is_color=False)
    for t in range(5):
        for c in range(2):
            writer.add_frame(stamp({"t": t, "c": c}, (32, 32), "uint16"))
    writer.finish()
    for level, side in enumerate((32, 16)):
        assert read_with_zarr(path / str(level)).shape == (5, 2, side, side)
    # two shards of 4 and 1 time points; the rest of the plan has left nothing
    sizes = [file.stat().st_size for file in (path / "0" / "c").rglob("*") if file.is_file()]
    frame, index = 32 * 32 * 2, 8 * 16 + 4
    assert len(sizes) == 2
    if compression is None:
        assert sorted(sizes) == [2 * frame + index, 8 * frame + index]


def test_frames_can_be_read_while_they_come(tmp_path: Path) -> None:
    for sizes in (None, {"t": 8}):
        for compression in (None, "blosc-lz4"):
            path = tmp_path / f"{sizes}{compression}.ome.zarr"
            writer = OMEZarrWriter(path, compression=compression)
            writer.begin(32, 32, sizes=sizes)
            for t in range(8):
                frame = stamp({"t": t}, (32, 32), "uint16")
                writer.add_frame(frame)
                np.testing.assert_array_equal(writer.isel(t=t).squeeze(), frame)
                assert read_with_zarr(path / "0")[t].any()
            writer.finish()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compression": "gzip"}, "blosc-lz4, blosc-zstd, zstd"),
        ({"compression": "zstd", "shuffle": "bit"}, "takes none"),
        ({"compression": "blosc-lz4", "compression_level": 10}, "0 to 9"),
        ({"compression_level": 3}, "need a compression"),
        ({"ngff_version": "0.3"}, "0.4, 0.5"),
        ({"levels": 0}, "from 1"),
        ({"levels": "many"}, "'auto'"),
        ({"chunks": {"z": 4}}, "the axes y, x"),
        ({"chunks": {"y": 0}}, "from 1 on"),
        ({"chunks": 64}, "a mapping"),
        ({"shards": {"q": 4}}, "the axes t, c, z"),
        ({"shards": {"t": 2.5}}, "whole number"),
        ({"shards": {"t": 2}, "ngff_version": "0.4"}, "NGFF 0.4 has none"),
    ],
)
def test_impossible_options_are_refused_with_what_is_possible(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        OMEZarrWriter(tmp_path / "exp.ome.zarr", **options)
    assert list(tmp_path.iterdir()) == []


def test_other_suffix_and_existing_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.ome\.zarr, \.zarr"):
        OMEZarrWriter(tmp_path / "exp.tif")
    zarr.create_group(tmp_path / "exp.ome.zarr")
    with pytest.raises(FileExistsError, match="exists"):
        OMEZarrWriter(tmp_path / "exp.ome.zarr")


@pytest.mark.parametrize("dtype", ["datetime64[s]", "longdouble"])
def test_pixels_that_zarr_cannot_hold_are_refused_before_the_first_frame(
    dtype: str, tmp_path: Path
) -> None:
    if np.dtype(dtype) == np.float64:
        pytest.skip("a long double is a double on this platform")
    writer = OMEZarrWriter(tmp_path / "exp.ome.zarr")
    with pytest.raises(ValueError, match="type"):
        writer.begin(8, 8, is_color=False, dtype=dtype, sizes={"t": 2})
    assert list(tmp_path.iterdir()) == []
