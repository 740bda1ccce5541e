"""What other readers learn from our OME-TIFF files: the right axes with the right numbers."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import numpy as np
import ome_types
import pytest
import tifffile
import useq
from bioio import BioImage
from hypothesis import given
from hypothesis import strategies as st
from ome_types.model import UnitsLength, UnitsTime

from engine import StampedEngine
from mda_writers import BigTiffWriter, record
from mda_writers.formats.tiff.ome_xml import LENGTH_UNITS, TIME_UNITS, OmeXml
from mda_writers.model.layout import PLANES_DESCRIBED, Channel, ImageLayout, Layout, PlaneInfo
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

SEQUENCE = useq.MDASequence(
    axis_order="tpcz",
    stage_positions=[(10, 20, 3), useq.Position(x=-4, y=5, z=6, name="β/2")],
    channels=[useq.Channel(config="DAPI", exposure=7), useq.Channel(config="FITC", exposure=9)],
    z_plan=useq.ZRangeAround(range=1.5, step=0.75),
    time_plan=useq.TIntervalLoops(interval=0.05, loops=2),
)


def description(path: Path) -> ome_types.OME:
    """Return the OME-XML of a file, validated against the OME schema."""
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    assert xml
    return ome_types.from_xml(xml, validate=True)


@pytest.fixture
def recorded(core: CMMCorePlus, tmp_path: Path) -> Path:
    """Record SEQUENCE with the demo camera, and return the folder."""
    record(core, SEQUENCE, BigTiffWriter(tmp_path / "x.ome.tiff"), progress=False)
    return tmp_path


def test_sizes_and_times_have_values_and_units(recorded: Path) -> None:
    ome = description(recorded / "x_p0.ome.tiff")
    pixels = ome.images[0].pixels
    assert pixels.dimension_order.value == "XYZCT"
    assert (pixels.size_t, pixels.size_c, pixels.size_z) == (2, 2, 3)
    assert (pixels.physical_size_x, pixels.physical_size_y, pixels.physical_size_z) == (
        0.5,
        0.5,
        0.75,
    )
    assert pixels.physical_size_x_unit.value == pixels.physical_size_z_unit.value == "µm"
    assert (pixels.time_increment, pixels.time_increment_unit.value) == (0.05, "s")
    assert pixels.significant_bits == 16
    assert [channel.name for channel in pixels.channels] == ["DAPI", "FITC"]
    assert ome.images[0].acquisition_date is not None


def test_every_plane_has_its_time_exposure_and_position(recorded: Path) -> None:
    ome = description(recorded / "x_β-2.ome.tiff")
    sidecar = json.loads((recorded / "x.ome.tiff_frame_metadata.json").read_text())["β-2"]
    planes = ome.images[0].pixels.planes
    assert len(planes) == len(sidecar) == 12
    for plane, frame in zip(planes, sidecar, strict=True):
        index = frame["mda_writers"]["index"]
        assert (plane.the_t, plane.the_c, plane.the_z) == (index["t"], index["c"], index["z"])
        assert plane.delta_t == pytest.approx(frame["runner_time_ms"] / 1000)
        assert plane.exposure_time == [0.007, 0.009][index["c"]]
        assert plane.position_x == pytest.approx(-4, abs=0.01)
        assert plane.position_z == pytest.approx(6 + (index["z"] - 1) * 0.75, abs=0.01)
        assert plane.position_x_unit.value == "µm"


def test_the_instrument_is_named(recorded: Path) -> None:
    ome = description(recorded / "x_p0.ome.tiff")
    assert [detector.model for detector in ome.instruments[0].detectors] == ["Camera"]
    assert [objective.model for objective in ome.instruments[0].objectives] == ["20X"]
    assert ome.images[0].objective_settings.id == "Objective:0"
    assert ome.images[0].pixels.channels[0].detector_settings.id == "Detector:0"


def test_the_files_of_a_recording_are_one_data_set(recorded: Path) -> None:
    first, second = (description(recorded / f"x_{key}.ome.tiff") for key in ("p0", "β-2"))
    assert first.uuid != second.uuid
    for ome in (first, second):
        files = {
            image.name: (block.uuid.file_name, block.uuid.value)
            for image in ome.images
            for block in image.pixels.tiff_data_blocks
        }
        assert files == {
            "p0": ("x_p0.ome.tiff", first.uuid),
            "β/2": ("x_β-2.ome.tiff", second.uuid),
        }
    # each file shows its own image first, and the others behind it
    with tifffile.TiffFile(recorded / "x_β-2.ome.tiff") as tif:
        assert [series.name for series in tif.series] == ["β/2", "p0"]
        assert [series.axes for series in tif.series] == ["TCZYX", "TCZYX"]


def test_the_description_has_no_character_references(core: CMMCorePlus, tmp_path: Path) -> None:
    """Bio-Formats takes ``&#181;`` apart, finds no unit of that name, and reads a plain stack."""
    sequence = SEQUENCE.replace(stage_positions=[useq.Position(x=1, y=2, z=3, name="µ\n→\t'\"&<")])
    record(core, sequence, BigTiffWriter(tmp_path / "x.ome.tiff"), progress=False)
    with tifffile.TiffFile(tmp_path / "x.ome.tiff") as tif:
        raw = tif.pages.first.tags["ImageDescription"]
        tif.filehandle.seek(raw.valueoffset)
        content = tif.filehandle.read(raw.count)
    assert b"&#" not in content
    assert "µm".encode() in content
    assert description(tmp_path / "x.ome.tiff").images[0].name == "µ → '\"&<"


@given(
    name=st.text(st.characters()),
    value=st.none() | st.floats(width=32),  # as the schema has them
    bits=st.none() | st.integers(0, 64),
)
def test_whatever_names_and_numbers_are_the_description_is_valid(
    name: str, value: float | None, bits: int | None
) -> None:
    image = ImageLayout(
        "p0",
        name,
        {},
        {"t": 1, "c": 2},
        (4, 5),
        "uint16",
        (Channel(name, camera=name), Channel("DAPI")),
        position_um=(value, None, value),
        file="x.ome.tif",
    )
    layout = Layout((image,), value, value, value, "", (name,), bits, name, value)
    plane = PlaneInfo((0, 1), 1, value, value, (value, value, None))
    xml = OmeXml(str(uuid.UUID(int=1))).for_image(layout, "p0", {"p0": [plane]})
    described = ome_types.from_xml(xml.encode(), validate=True)
    assert "&#" not in xml.replace("&amp;#", "")
    assert described.images[0].pixels.channels[1].name == "DAPI"
    if name.isprintable() and name == name.strip():
        assert described.images[0].name == name


def test_units_are_those_of_ome() -> None:
    assert set(LENGTH_UNITS) == {unit.value for unit in UnitsLength}
    assert set(TIME_UNITS) == {unit.value for unit in UnitsTime}


def test_a_size_of_zero_is_unknown_and_a_negative_one_is_refused(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    with pytest.raises(ValueError, match=r"pixel_size_um must be greater than 0, not -0\.5"):
        writer.begin(16, 16, pixel_size_um=-0.5)
    writer.begin(16, 16, pixel_size_um=0, z_step_um=0.5)
    writer.add_frame(np.zeros((16, 16), np.uint8))
    writer.finish()
    pixels = description(tmp_path / "x.ome.tif").images[0].pixels
    assert (pixels.physical_size_x, pixels.physical_size_z) == (None, 0.5)


def test_a_thousand_positions_are_described_once(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16, False, dtype="uint8", sizes={"p": 1000})
    for _ in range(1000):
        writer.add_frame(np.zeros((16, 16), np.uint8))
    writer.finish()
    first, last = (description(tmp_path / f"x_p{p}.ome.tif") for p in (0, 999))
    assert [image.name for image in first.images] == [f"p{n}" for n in range(1000)]
    assert [image.name for image in last.images] == ["p999"]


@pytest.mark.filterwarnings("ignore:As of version 0.4.0")  # bioio's call of ome-types
def test_bioio_reads_axes_sizes_and_channel_names(recorded: Path) -> None:
    image = BioImage(recorded / "x_p0.ome.tiff")
    assert image.dims.order == "TCZYX"
    assert image.shape == (2, 2, 3, 512, 512)
    assert image.channel_names == ["DAPI", "FITC"]
    assert image.physical_pixel_sizes == (0.75, 0.5, 0.5)
    np.testing.assert_array_equal(
        image.get_image_data("YX", T=1, C=1, Z=2),
        tifffile.imread(recorded / "x_p0.ome.tiff")[1, 1, 2],
    )


@pytest.mark.parametrize("order", ["tcz", "tzc", "czt", "ctz", "zct", "ztc"])
def test_any_order_of_axes_is_described_as_it_lies_on_disk(order: str, tmp_path: Path) -> None:
    sizes = {"t": 2, "c": 3, "z": 4}
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16, False, dtype="uint16", sizes={axis: sizes[axis] for axis in order})
    for index in np.ndindex(*(sizes[axis] for axis in order)):
        writer.add_frame(stamp(dict(zip(order, index, strict=True)), (16, 16), "uint16"))
    writer.finish()
    description(tmp_path / "x.ome.tif")
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tif:
        series = tif.series[0]
        assert series.axes == f"{order.upper()}YX"
        assert series.dataoffset is not None  # contiguous: readers may map it
        data = series.asarray()
    for index in np.ndindex(data.shape[:3]):
        check_stamp(data[index], dict(zip(order, index, strict=True)))


def test_cameras_are_channels_with_names_of_their_own(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, cameras=2))
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    record(core, useq.MDASequence(channels=["DAPI", "FITC"]), writer, progress=False)
    names = [c.name for c in description(tmp_path / "x.ome.tif").images[0].pixels.channels]
    assert names == ["DAPI:Camera-1", "DAPI:Camera-2", "FITC:Camera-1", "FITC:Camera-2"]
    check_stamp(writer.isel(c=1, cam=1), {"c": 1, "cam": 1})


def test_colour_is_one_channel_of_three_samples(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(20, 16, True)
    writer.add_frame(stamp({"t": 0}, (16, 20, 3), "uint8"))
    writer.finish()
    pixels = description(tmp_path / "x.ome.tif").images[0].pixels
    assert (pixels.size_c, len(pixels.channels), pixels.channels[0].samples_per_pixel) == (3, 1, 3)
    check_stamp(tifffile.imread(tmp_path / "x.ome.tif"), {"t": 0})


def test_frames_in_no_order_are_described_plane_by_plane(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16)
    indices = [{"t": 3, "z": 0}, {"t": 0, "z": 2}, {"t": 1, "z": 1}]
    for index in indices:
        writer.add_frame(stamp(index, (16, 16), "uint16"), index=index)
    writer.finish()
    description(tmp_path / "x.ome.tif")
    data = tifffile.imread(tmp_path / "x.ome.tif")
    assert data.shape == (4, 3, 16, 16)
    for index in indices:
        check_stamp(data[index["t"], index["z"]], index)
    assert np.count_nonzero(data.any(axis=(2, 3))) == 3


def test_every_file_of_a_set_finds_the_planes_of_the_others(tmp_path: Path) -> None:
    """Two images whose frames come in orders of their own, each read through the other's file."""
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16)
    indices = [{"p": 0, "z": z, "t": t} for z in range(3) for t in range(2)]  # z is slower here
    indices += [{"p": 1, "t": t, "z": z} for t, z in [(1, 0), (0, 1), (2, 1)]]  # and here nothing
    for index in indices:
        writer.add_frame(stamp(index, (16, 16), "uint16"), index=index)
    writer.finish()
    for opened in ("x.ome.tif", "x_p1.ome.tif"):
        description(tmp_path / opened)
        with tifffile.TiffFile(tmp_path / opened) as tif:
            found = {series.name: series for series in tif.series}
            for index in indices:
                series = found[f"p{index['p']}"]
                # plane by plane: as a whole, tifffile reads images of other files from this one
                place = tuple(index[axis.lower()] for axis in series.axes[:2])
                page = series.pages[int(np.ravel_multi_index(place, series.shape[:2]))]
                other = tmp_path / page.parent.filename
                check_stamp(tifffile.imread(other, key=page.index), index)


def test_planes_keep_their_times_when_the_axes_change_places(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16)
    for z, t in np.ndindex(2, 3):
        metadata = {"runner_time_ms": 1000 * (10 * t + z)}
        writer.add_frame(np.zeros((16, 16), np.uint8), index={"z": z, "t": t}, metadata=metadata)
    writer.finish()
    planes = description(tmp_path / "x.ome.tif").images[0].pixels.planes
    assert len(planes) == 6
    assert all(plane.delta_t == 10 * plane.the_t + plane.the_z for plane in planes)


def test_a_cancelled_run_ends_with_what_was_taken(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, on_frame=lambda n: n == 7 and core.mda.cancel()))
    sequence = useq.MDASequence(
        time_plan=useq.TIntervalLoops(interval=0, loops=50), channels=["DAPI", "FITC"]
    )
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    (report,) = record(core, sequence, writer, progress=False)
    assert (report.canceled, report.complete) == (True, False)
    data = tifffile.imread(tmp_path / "x.ome.tif")
    assert data.shape == (4, 2, 32, 32)
    for n in range(report.frames_written):
        check_stamp(data[n // 2, n % 2], {"t": n // 2, "c": n % 2})
    assert (tmp_path / "x.ome.tif").stat().st_size < 50_000


def test_planes_beyond_the_line_are_in_the_sidecar_only(tmp_path: Path) -> None:
    count = PLANES_DESCRIBED + 1
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(16, 16, False, dtype="uint8", sizes={"t": count})
    frame = np.zeros((16, 16), np.uint8)
    for n in range(count):
        writer.add_frame(frame, metadata={"runner_time_ms": n})
    writer.finish()
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tif:
        assert len(tif.ome_metadata or "") < 5_000
        assert tif.series[0].shape == (count, 16, 16)
    sidecar = json.loads((tmp_path / "x.ome.tif_frame_metadata.json").read_text())
    assert sidecar["p0"][-1]["runner_time_ms"] == count - 1


def test_a_plain_tiff_has_no_ome_xml_and_the_right_shape(core: CMMCorePlus, tmp_path: Path) -> None:
    record(core, SEQUENCE, BigTiffWriter(tmp_path / "x.tif"), progress=False)
    with tifffile.TiffFile(tmp_path / "x_p0.tif") as tif:
        assert tif.ome_metadata is None
        assert tif.is_bigtiff
        assert (tif.series[0].axes, tif.series[0].shape) == ("TCZYX", (2, 2, 3, 512, 512))
        assert tif.pages.first.tags["XResolution"].value == (20000, 1)  # 0.5 µm, per cm
    assert (tmp_path / "x.tif_frame_metadata.json").exists()
