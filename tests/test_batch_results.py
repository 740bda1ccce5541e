"""What is computed from recordings is what numpy computes from their pixels."""

from __future__ import annotations

import csv
import uuid
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import orjson
import pytest
import tifffile
from typer.testing import CliRunner

from batch_recordings import recorded
from mda_writers import BigTiffWriter, cli, convert, open_dataset, record, verify
from mda_writers.batch import BatchError, contact_sheet, dff, merge, project, trace
from mda_writers.batch.traces import delta_f_over_f
from plans import PLANS, Plan, engine_for
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---------------------------------------------------------------- projections


@pytest.mark.parametrize("axes", ["t", "c", "tc"])
def test_a_projection_is_the_maximum_along_its_axes(axes: str, tmp_path: Path) -> None:
    source = recorded(tmp_path / "a.ome.tiff", frames=5, pixel_size_um=0.5)
    project(source, tmp_path / "p.ome.tiff", axes=axes, progress=False)
    with open_dataset(source) as before, open_dataset(tmp_path / "p.ome.tiff") as after:
        along = tuple("tc".index(axis) for axis in axes)
        expected = before.isel().max(axis=along)
        assert np.array_equal(after.isel(), expected)
        assert after.pixel_size_um == 0.5
        assert after.complete
        if "c" not in axes:
            assert after.channels == ["DAPI", "FITC"]
        about = after.read_metadata(**after.image_coordinates[0])
        assert about["projected_axes"] == axes
        assert len(about["projected_frames"]) == np.prod([{"t": 5, "c": 2}[a] for a in axes])
        assert about["note"] == "00"
    assert verify(tmp_path / "p.ome.tiff").ok


@pytest.mark.parametrize(
    "name", ["ragged_in_everything", "cameras_of_three_sizes", "rgb", "wells_with_one_field"]
)
def test_projections_keep_positions_and_cameras_apart(
    name: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    plan: Plan = next(plan for plan in PLANS if plan.name == name)
    core.mda.set_engine(engine_for(plan, core))
    record(core, plan.events(), BigTiffWriter(tmp_path / "a.ome.tiff"), progress=False)
    project(tmp_path / "a.ome.tiff", tmp_path / "p.ome.zarr", axes="z", progress=False)
    with open_dataset(tmp_path / "a.ome.tiff") as a, open_dataset(tmp_path / "p.ome.zarr") as p:
        seen = 0
        groups: dict[tuple[Any, ...], list[np.ndarray]] = {}
        for at in a.image_coordinates:
            kept = tuple((axis, value) for axis, value in at.items() if axis != "z")
            groups.setdefault(kept, []).append(a.read_image(**at))
        for kept, frames in groups.items():
            assert np.array_equal(p.read_image(**dict(kept)), np.max(frames, axis=0))
            seen += 1
        assert seen == len(p.image_coordinates)
        assert p.complete is a.complete


# ---------------------------------------------------------------- traces


def test_a_trace_is_the_mean_over_each_region_for_each_frame(tmp_path: Path) -> None:
    source = recorded(tmp_path / "a.ome.tiff", frames=5)
    labels = np.zeros((32, 32), np.uint16)
    labels[4:9, 4:9], labels[20:, :3] = 1, 7
    np.save(tmp_path / "labels.npy", labels)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    tables = []
    for name in ("labels.npy", "labels.tif"):
        out = tmp_path / f"{name}.csv"
        box = {"soma": (1, 5, 2, 30)}
        trace(source, out, regions=box, labels=tmp_path / name, progress=False)
        tables.append(rows_of(out))
    assert tables[0] == tables[1]
    assert [(row["t"], row["c"]) for row in tables[0]] == [
        (str(t), c) for t in range(5) for c in ("DAPI", "FITC")
    ]
    for row in tables[0]:
        index = {"t": int(row["t"]), "c": ["DAPI", "FITC"].index(row["c"])}
        frame = stamp(index, (32, 32), "uint16").astype(float)
        assert float(row["soma"]) == pytest.approx(frame[1:5, 2:30].mean(), rel=1e-12)
        assert float(row["region_1"]) == pytest.approx(frame[labels == 1].mean(), rel=1e-12)
        assert float(row["region_7"]) == pytest.approx(frame[labels == 7].mean(), rel=1e-12)
        assert float(row["unix_time_s"]) > 1.6e9


def test_without_regions_the_whole_frame_is_one(tmp_path: Path) -> None:
    trace(recorded(tmp_path / "a.ome.tiff"), tmp_path / "out", progress=False)
    row = rows_of(tmp_path / "out" / "a_traces.csv")[0]
    assert float(row["mean"]) == stamp({"t": 0, "c": 0}, (32, 32), "uint16").mean()


def test_a_region_outside_the_frame_is_told_and_leaves_no_table(tmp_path: Path) -> None:
    source = recorded(tmp_path / "a.ome.tiff")
    with pytest.raises(BatchError, match="Region x reaches row 33"):
        trace(source, tmp_path / "a.csv", regions={"x": (0, 33, 0, 1)}, progress=False)
    with pytest.raises(ValueError, match="no pixel"):
        trace(source, tmp_path / "a.csv", regions={"x": (5, 5, 0, 1)}, progress=False)
    assert not list(tmp_path.glob("*.csv*"))
    assert not list(tmp_path.glob(".*"))


# ---------------------------------------------------------------- ΔF/F


def test_delta_f_over_f_is_what_its_formula_says() -> None:
    trace_ = np.array([10.0, 10, 20, 10, 40, 10, 10])
    whole = delta_f_over_f(trace_, 50, None, 0)
    assert whole.tolist() == [0, 0, 1, 0, 3, 0, 0]
    assert delta_f_over_f(trace_, 50, None, 5).tolist() == [0, 0, 2, 0, 6, 0, 0]
    # windows of 3, two frames at the ends: medians 10, 10, 10, 20, 10, 10, 10
    assert delta_f_over_f(trace_, 50, 3, 0).tolist() == [0, 0, 1, -0.5, 3, 0, 0]
    assert np.isnan(delta_f_over_f(trace_, 50, None, 10)).all()


def test_every_channel_has_a_baseline_of_its_own(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    writer.begin(16, 16, dtype="uint16", sizes={"t": 4, "c": 2})
    for t in range(4):
        for c in range(2):
            value = (100, 1000)[c] * (2 if t == 3 else 1)
            writer.add_frame(np.full((16, 16), value, "uint16"), index={"t": t, "c": c})
    writer.finish()
    trace(tmp_path / "a.ome.tiff", tmp_path, progress=False)
    dff(tmp_path, tmp_path / "out", percentile=20, progress=False)
    rows = rows_of(tmp_path / "out" / "a_traces_dff.csv")
    assert [(row["t"], row["c"], float(row["mean"])) for row in rows] == [
        (str(t), str(c), float(t == 3)) for t in range(4) for c in range(2)
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no table of traces"):
        dff(tmp_path / "none", tmp_path / "out", percentile=20, progress=False)
    with pytest.raises(ValueError, match="odd number"):
        dff(tmp_path, tmp_path / "out", percentile=20, window_frames=4, progress=False)


# ---------------------------------------------------------------- merge


def test_merged_positions_keep_their_frames_names_and_metadata(tmp_path: Path) -> None:
    for name in ("left", "right"):
        recorded(tmp_path / "in" / f"{name}.ome.tiff", frames=3 + (name == "right"))
    merge(tmp_path / "in", tmp_path / "all.ome.tiff", progress=False)
    with open_dataset(tmp_path / "all.ome.tiff") as merged:
        assert merged.complete
        assert merged.positions == ["left", "right"]
        for p, frames in (("left", 3), ("right", 4)):
            for t in range(frames):
                check_stamp(merged.read_image(p=p, t=t, c="FITC"), {"t": t, "c": 1})
                assert merged.read_metadata(p=p, t=t, c="FITC")["note"] == f"{t}1"
    assert {p.name for p in tmp_path.glob("*.tiff")} == {"all_left.ome.tiff", "all_right.ome.tiff"}
    assert verify(tmp_path / "all.ome.tiff").ok
    with tifffile.TiffFile(tmp_path / "all_left.ome.tiff") as tif:
        assert len(tif.series) == 2


def test_recordings_with_different_pixel_sizes_are_not_merged(tmp_path: Path) -> None:
    one = recorded(tmp_path / "1.tif", pixel_size_um=0.5)
    two = recorded(tmp_path / "2.tif", pixel_size_um=0.6)
    with pytest.raises(BatchError, match="differ in pixel_size_um"):
        merge([one, two], tmp_path / "all.ome.zarr", progress=False)
    assert not (tmp_path / "all.ome.zarr").exists()


# ---------------------------------------------------------------- pictures


def test_a_contact_sheet_has_a_tile_for_each_channel_and_names_what_is_unreadable(
    tmp_path: Path,
) -> None:
    for n in range(2):
        recorded(tmp_path / "in" / f"{n}.ome.tiff")
    (tmp_path / "in" / "1.ome.tiff").write_bytes(b"II")
    with pytest.raises(BatchError, match=r"could not be read: 1.ome.tiff"):
        contact_sheet(tmp_path / "in", tmp_path / "s.png", tile=64, columns=2, progress=False)
    sheet = cv2.imread(str(tmp_path / "s.png"))
    assert sheet.shape == (2 * 80, 2 * 64, 3)
    assert sheet[:64, :64].std() > 20
    assert sheet[:64, 64:].std() > 20
    assert sheet[80:144, :64].max() == 0


def test_a_video_of_a_recording_has_the_contrast_that_was_asked_for(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    writer.begin(32, 32, dtype="uint16", sizes={"t": 3})
    for value in (1000, 2000, 3000):
        writer.add_frame(np.full((32, 32), value, "uint16"))
    writer.finish()
    convert(
        tmp_path / "a.ome.tiff", tmp_path / "a.avi", fourcc="FFV1",
        contrast_limits=(1000, 3000), progress=False,
    )  # fmt: skip
    film = cv2.VideoCapture(str(tmp_path / "a.avi"))
    levels = [int(film.read()[1].mean().round()) for _ in range(3)]
    film.release()
    assert levels == [0, 128, 255]


def test_a_file_from_elsewhere_becomes_a_recording(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (3, 2, 32, 48), dtype="uint16")
    tifffile.imwrite(
        tmp_path / "x.ome.tif", pixels,
        metadata={"axes": "TCYX", "Channel": {"Name": ["a", "b"]}, "PhysicalSizeX": 0.25,
                  "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"},
    )  # fmt: skip
    convert(tmp_path / "x.ome.tif", tmp_path / "x.ome.zarr", levels=2, progress=False)
    convert(tmp_path / "x.ome.zarr", tmp_path / "y.ome.tif", progress=False)
    for name in ("x.ome.zarr", "y.ome.tif"):
        with open_dataset(tmp_path / name) as dataset:
            assert np.array_equal(dataset.isel(), pixels)
            assert dataset.channels == ["a", "b"]
            assert dataset.pixel_size_um == 0.25
            assert dataset.complete
    with open_dataset(tmp_path / "x.ome.zarr") as dataset:
        assert dataset.shapes[1][-2:] == (16, 24)


def a_set_from_elsewhere(folder: Path, pixels: np.ndarray) -> list[Path]:
    """Write an OME-TIFF of one file a channel, each with the XML of them all."""
    folder.mkdir()
    files = [folder / f"c{c}.ome.tif" for c in range(len(pixels))]
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="{pixels.shape[1]}">'
        f'<UUID FileName="{file.name}">urn:uuid:{uuid.UUID(int=c + 1)}</UUID></TiffData>'
        for c, file in enumerate(files)
    )
    count, times, height, width = pixels.shape
    channels = "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>' for c in range(count))
    for c, file in enumerate(files):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{uuid.UUID(int=c + 1)}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYTCZ" Type="uint16" SizeX="{width}" SizeY="{height}" '
            f'SizeC="{count}" SizeT="{times}" SizeZ="1">{channels}{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(file, pixels[c], photometric="minisblack", description=xml, metadata=None)
    return files


def test_every_file_of_a_set_from_elsewhere_is_on_record(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (2, 3, 32, 48), dtype="uint16")
    files = a_set_from_elsewhere(tmp_path / "in", pixels)
    summary = convert(tmp_path / "in", tmp_path / "out", suffix=".ome.zarr", progress=False)
    assert [result.output.name for result in summary.results] == ["c0.ome.zarr"]  # one, not two
    with open_dataset(tmp_path / "out" / "c0.ome.zarr") as dataset:
        assert np.array_equal(dataset.isel(), pixels)
    record = orjson.loads((tmp_path / "out" / "c0.ome.zarr.process.json").read_bytes())
    assert [told["path"] for told in record["inputs"]] == [str(file) for file in files]
    # a change in the other file is noticed
    content = bytearray(files[1].read_bytes())
    content[-1] ^= 1
    files[1].write_bytes(content)
    with pytest.raises(BatchError, match="exists, and is not what would be made now"):
        convert(tmp_path / "in", tmp_path / "out", suffix=".ome.zarr", progress=False)


# ---------------------------------------------------------------- the command line


def test_the_command_line_says_what_failed_and_ends_with_1(tmp_path: Path) -> None:
    app = cli.app
    for n in range(2):
        recorded(tmp_path / "in" / f"{n}.ome.tiff")

    def run(*words: object) -> tuple[int, str]:
        # wide, or the table would break the names of files
        done = CliRunner(env={"COLUMNS": "400"}).invoke(app, [str(word) for word in words])
        return done.exit_code, done.output

    source, out = tmp_path / "in", tmp_path / "out"
    assert run("convert", source, "-o", out, "--to", ".ome.zarr", "--levels", 2)[0] == 0
    assert "2 skipped" in run("convert", source, "-o", out, "--to", ".ome.zarr", "--levels", 2)[1]
    assert run("project", source, "-o", out, "--axes", "t", "--set", "compression=zlib")[0] == 0
    assert run("trace", source, "-o", out, "--region", "a=0:4,0:4")[0] == 0
    assert run("dff", out, "-o", out, "--percentile", 10, "--window", 3)[0] == 0
    assert run("merge", source, "-o", tmp_path / "m.ome.zarr", "--name", "x", "--name", "y")[0] == 0
    assert run("sheet", source, "-o", tmp_path / "s.png")[0] == 0
    assert (out / "0_traces_dff.csv").exists()

    (source / "1.ome.tiff").write_bytes(b"II")
    code, text = run("convert", source, "-o", tmp_path / "o2", "--to", ".ome.zarr")
    assert code == 1
    assert "1 failed" in text
    assert "1.ome.tiff" in text
    assert run("convert", tmp_path / "none", "-o", out, "--to", ".ome.zarr")[0] == 2
    assert run("convert", source, "-o", out, "--to", ".xyz")[0] == 2
    assert run("convert", source, "-o", out, "--to", ".mp4", "--set", "nonsense=1")[0] == 2
    assert run("trace", source, "-o", out, "--region", "a=0:4")[0] == 2
