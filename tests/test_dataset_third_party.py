"""Files that others wrote are opened, too: what they hold is compared with what was given."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import tifffile
import zarr

from mda_writers import BigTiffWriter, CV2Writer, open_dataset
from mda_writers.batch.inputs import files_of_set
from mda_writers.errors import CoordinateError, CorruptRecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIXELS = np.random.default_rng(0).integers(0, 1 << 16, (2, 3, 4, 40, 50)).astype(np.uint16)


@pytest.fixture(autouse=True)
def no_pool() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def check(path: Path | str, expected: np.ndarray, axes: str = "tcz") -> None:
    with open_dataset(path) as dataset:
        assert "".join(dataset.axes) == axes
        assert dataset.shape == expected.shape
        assert dataset.dtype == expected.dtype
        np.testing.assert_array_equal(dataset.as_array().compute(), expected)
        for place in np.ndindex(expected.shape[: len(axes)]):
            frame = dataset.read_image(**dict(zip(axes, place, strict=True)))
            np.testing.assert_array_equal(frame, expected[place])
        np.testing.assert_array_equal(
            dataset.isel(**{axes[-1]: -1, "x": 3}),
            expected.take(-1, len(axes) - 1).take(3, len(axes)),
        )
        assert dataset.complete
        assert dataset.missing == []
        assert not dataset.await_new_image(1)


# ---------------------------------------------------------------- TIFF


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}],
    ids=str,
)
def test_ome_tiff_of_tifffile(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    about = {
        "axes": "TCZYX",
        "PhysicalSizeX": 325.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeZ": 2.0,
        "TimeIncrement": 500.0,
        "TimeIncrementUnit": "ms",
        "Channel": {"Name": ["DAPI", "FITC", "Cy5"]},
    }
    tifffile.imwrite(path, PIXELS, metadata=about, **options)
    check(path, PIXELS)
    with open_dataset(path) as dataset:
        assert dataset.channels == ["DAPI", "FITC", "Cy5"]
        assert dataset.pixel_size_um == pytest.approx(0.325)
        assert dataset.voxel_size_um[0] == 2.0
        assert dataset.time_interval_s == pytest.approx(0.5)
        np.testing.assert_array_equal(dataset.read_image(t=1, c="FITC", z=3), PIXELS[1, 1, 3])
        assert "ome_xml" in dataset.summary_metadata


def test_tiff_of_imagej_and_plain_stacks(tmp_path: Path) -> None:
    path = tmp_path / "ij.tif"
    stack = PIXELS.transpose(0, 2, 1, 3, 4)  # ImageJ's order
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TZCYX", "spacing": 2.0})
    check(path, stack, "tzc")
    tifffile.imwrite(tmp_path / "stack.tif", PIXELS[0, 0], photometric="minisblack")
    check(tmp_path / "stack.tif", PIXELS[0, 0], "t")
    tifffile.imwrite(tmp_path / "one.tif", PIXELS[0, 0, 0])
    with open_dataset(tmp_path / "one.tif") as dataset:
        np.testing.assert_array_equal(dataset.read_image(), PIXELS[0, 0, 0])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_is_the_last_axis(planar: str, tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (4, 20, 30, 3)).astype(np.uint8)
    stored = colour if planar == "contig" else colour.transpose(0, 3, 1, 2)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    check(tmp_path / "a.tif", colour, "t")


def test_several_images_in_one_ome_tiff_are_positions(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for n in range(2):
            writer.write(PIXELS[n], metadata={"axes": "CZYX", "Name": f"well{n}"})
    check(path, PIXELS, "pcz")
    with open_dataset(path) as dataset:
        assert dataset.positions == ["well0", "well1"]
        np.testing.assert_array_equal(dataset.read_image(p="well1", c=0, z=2), PIXELS[1, 0, 2])


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # tifffile's, of the file that is missing
def test_a_set_of_ome_tiffs_that_lacks_a_file_says_which_planes_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"a_t{t}.ome.tif" for t in range(2)]
    planes = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="{names[t]}">urn:uuid:0000000{t}-0000-0000-0000-000000000000</UUID>'
        "</TiffData>"
        for t in range(2)
        for z in range(4)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:%s">'
        '<Image ID="Image:0" Name="set"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint16" SizeX="50" SizeY="40" SizeZ="4" SizeC="1" SizeT="2">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    for t, name in enumerate(names):
        uuid = f"0000000{t}-0000-0000-0000-000000000000"
        with tifffile.TiffWriter(tmp_path / name, ome=False) as writer:
            for z in range(4):
                writer.write(
                    PIXELS[t, 0, z],
                    description=xml % uuid if z == 0 else None,
                    compression="zlib",
                    metadata=None,
                )
    check(tmp_path / names[0], PIXELS[:, 0], "tz")
    (tmp_path / names[1]).unlink()
    with open_dataset(tmp_path / names[0]) as dataset:
        assert not dataset.complete
        assert dataset.missing == [{"t": 1, "z": z} for z in range(4)]
        np.testing.assert_array_equal(dataset.read_image(t=0, z=3), PIXELS[0, 0, 3])
        with pytest.raises(CoordinateError, match="not on disk"):
            dataset.read_image(t=1, z=3)


def test_a_stored_pyramid_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    picture = np.random.default_rng(0).integers(0, 1 << 16, (512, 640)).astype(np.uint16)
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(picture, subifds=1, tile=(64, 64), metadata={"axes": "YX"})
        writer.write(picture[::2, ::2] // 2, subfiletype=1, tile=(64, 64))
    with open_dataset(path) as dataset:
        assert dataset.shapes[:2] == [(512, 640), (256, 320)]
        np.testing.assert_array_equal(dataset.read_image(level=1), picture[::2, ::2] // 2)


# ---------------------------------------------------------------- Zarr


def ngff(folder: Path, version: str, pixels: np.ndarray = PIXELS, levels: int = 1) -> None:
    """Write an image by the letter of the specification."""
    zarr_format = 3 if version == "0.5" else 2
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    datasets = []
    for n in range(levels):
        group.create_array(f"s{n}", data=pixels[..., :: 2**n, :: 2**n], chunks=(1, 1, 2, 16, 16))
        scale = {"type": "scale", "scale": [1, 1, 1, 2**n, 2**n]}
        datasets.append({"path": f"s{n}", "coordinateTransformations": [scale]})
    kinds = {"t": "time", "c": "channel"}
    units = {"t": "millisecond", "z": "micrometer", "y": "nanometer", "x": "nanometer"}
    axes = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": units[a]} if a in units else {})
        for a in "tczyx"
    ]
    whole = {"type": "scale", "scale": [500, 1, 2, 325, 325]}
    scales = {"axes": axes, "datasets": datasets, "coordinateTransformations": [whole]}
    about = {
        "multiscales": [{**scales, "name": "cells", "version": version}],
        "omero": {"channels": [{"label": name} for name in ("DAPI", "FITC", "Cy5")]},
    }
    group.attrs.update({"ome": {**about, "version": version}} if version == "0.5" else about)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_by_the_letter(version: str, tmp_path: Path) -> None:
    ngff(tmp_path / "a.zarr", version, levels=2)
    check(tmp_path / "a.zarr", PIXELS)
    with open_dataset(tmp_path / "a.zarr") as dataset:
        assert dataset.channels == ["DAPI", "FITC", "Cy5"]
        assert dataset.pixel_size_um == pytest.approx(0.325)
        assert dataset.voxel_size_um[0] == 2.0
        assert dataset.time_interval_s == pytest.approx(0.5)
        assert [shape[-2:] for shape in dataset.shapes] == [(40, 50), (20, 25)]
        np.testing.assert_array_equal(
            dataset.isel(level=1, t=1, c=0, z=0), PIXELS[1, 0, 0, ::2, ::2]
        )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_series_of_images_are_positions(version: str, tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3 if version == "0.5" else 2)
    layout = {"bioformats2raw.layout": 3}
    root.attrs.update({"ome": {**layout, "version": "0.5"}} if version == "0.5" else layout)
    for n in range(2):
        ngff(tmp_path / "a.zarr" / str(n), version, PIXELS[n : n + 1])
    check(tmp_path / "a.zarr", PIXELS[:, np.newaxis], "ptcz")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_fields_of_a_plate_are_positions(version: str, tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3 if version == "0.5" else 2)
    wells = [("A/2", 0, 1), ("C/11", 2, 10)]
    plate = {
        "columns": [{"name": str(n + 1)} for n in range(12)],
        "rows": [{"name": name} for name in "ABC"],
        "wells": [{"path": p, "rowIndex": r, "columnIndex": c} for p, r, c in wells],
        "version": version,
    }
    root.attrs.update(
        {"ome": {"plate": plate, "version": "0.5"}} if version == "0.5" else {"plate": plate}
    )
    for n, (path, _, _) in enumerate(wells):
        well = root.create_group(path)
        about = {"images": [{"path": "0"}, {"path": "1"}], "version": version}
        well.attrs.update(
            {"ome": {"well": about, "version": "0.5"}} if version == "0.5" else {"well": about}
        )
        for field in range(2):
            ngff(
                tmp_path / "a.zarr" / path / str(field),
                version,
                PIXELS[n : n + 1, field : field + 1],
            )
    with open_dataset(tmp_path / "a.zarr") as dataset:
        assert dataset.sizes["p"] == 4
        assert dataset.pixel_size_um == pytest.approx(0.325)
        for n, field in np.ndindex(2, 2):
            frame = dataset.read_image(p=2 * n + field, z=3)
            np.testing.assert_array_equal(frame, PIXELS[n, field, 3])
        whole = dataset.as_array(axes=["p", "z"]).compute()
        np.testing.assert_array_equal(whole, PIXELS[:, :2].reshape(4, 4, 40, 50))
        assert dataset.positions == ["A2_0", "A2_1", "C11_0", "C11_1"]
        np.testing.assert_array_equal(dataset.read_image(p="C11_0", z=1), PIXELS[1, 0, 1])


def test_a_bare_zarr_array_opens(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, chunks=(1, 1, 1, 40, 50))
    check(tmp_path / "a.zarr", PIXELS)


def test_an_object_store_opens_by_its_address() -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").store.clear()
    store = zarr.storage.FsspecStore.from_url("memory://bucket/a.zarr")
    group = zarr.open_group(store, mode="w")
    group.create_array("0", data=PIXELS, chunks=(1, 1, 1, 40, 50))
    scale = {"type": "scale", "scale": [1] * 5}
    scales = {"axes": [{"name": a} for a in "tczyx"], "datasets": [
        {"path": "0", "coordinateTransformations": [scale]}]}  # fmt: skip
    group.attrs["ome"] = {"multiscales": [scales], "version": "0.5"}
    check("memory://bucket/a.zarr", PIXELS)


# ---------------------------------------------------------------- others


@pytest.mark.parametrize("backend", ["tifffile", "zarr-python"])
def test_files_of_ome_writers_open(backend: str, tmp_path: Path) -> None:
    ome_writers = pytest.importorskip("ome_writers")
    path = tmp_path / ("a.ome.tiff" if backend == "tifffile" else "a.ome.zarr")
    dims = [
        ome_writers.Dimension(name=a, count=n, type=kind)
        for a, n, kind in zip(
            "tczyx", PIXELS.shape, ["time", "channel", *["space"] * 3], strict=True
        )
    ]
    settings = ome_writers.AcquisitionSettings(
        root_path=str(path), dimensions=dims, dtype="uint16", format=backend
    )
    with ome_writers.create_stream(settings) as stream:
        for place in np.ndindex(*PIXELS.shape[:3]):
            stream.append(PIXELS[place])
    check(path, PIXELS)


def test_ndtiff_folders_open_through_ndstorage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ndstorage")
    from ndstorage.ndtiff_dataset import NDTiffDataset

    writer = NDTiffDataset(
        str(tmp_path), name="nd", summary_metadata={"PixelSizeUm": 0.5}, writable=True
    )
    names = ["DAPI", "FITC", "Cy5"]
    for t, c, z in np.ndindex(2, 3, 4):
        axes = {"time": t, "channel": names[c], "z": z}
        writer.put_image(axes, PIXELS[t, c, z], {"PixelSizeUm": 0.5, "number": t})
    with warnings.catch_warnings():
        # what ndstorage opens while it writes, it leaves to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        writer.finish()
        writer.close()
        del writer
        gc.collect()
    capsys.readouterr()
    folder = next(tmp_path.glob("nd*"))
    check(folder, PIXELS)
    with open_dataset(folder) as dataset:
        assert dataset.channels == names
        assert capsys.readouterr().out == ""
        assert dataset.pixel_size_um == 0.5
        assert dataset.summary_metadata["PixelSizeUm"] == 0.5
        assert dataset.read_metadata(t=1, c="Cy5", z=0)["number"] == 1
        np.testing.assert_array_equal(
            dataset.read_image(time=1, channel="FITC", z=2), PIXELS[1, 1, 2]
        )


def test_what_is_nothing_of_all_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Recordings in .*: none"):
        open_dataset(tmp_path / "no.ome.tif")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(CorruptRecordingError, match=r"known are TIFF"):
        open_dataset(tmp_path / "notes.txt")
    (tmp_path / "empty.tif").write_bytes(b"")
    with pytest.raises(CorruptRecordingError, match=r"empty.tif: not a TIFF"):
        open_dataset(tmp_path / "empty.tif")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorruptRecordingError, match="neither Zarr nor NDTiff"):
        open_dataset(tmp_path / "folder")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(CorruptRecordingError, match="not a Zarr folder that can be read"):
        open_dataset(tmp_path / "a.zarr")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(CorruptRecordingError, match="no video"):
        open_dataset(tmp_path / "film.mp4")
    tifffile.imwrite(tmp_path / "one.tif", PIXELS[0, 0], photometric="minisblack")
    with open_dataset(tmp_path / "one.tif") as dataset, pytest.raises(CoordinateError):
        dataset.read_image(t=4)


def test_a_video_of_one_channel_opens_its_whole_recording(tmp_path: Path) -> None:
    writer = CV2Writer(tmp_path / "film.mp4")
    writer.begin(64, 48, False, sizes={"t": 2, "c": 2}, channels=["DAPI", "FITC"])
    for n in range(4):
        writer.add_frame(np.full((48, 64), 60 * n, np.uint8), index={"t": n // 2, "c": n % 2})
    writer.finish()
    with open_dataset(tmp_path / "film_FITC.mp4") as dataset:
        assert dataset.path == tmp_path / "film.mp4"
        assert dataset.channels == ["DAPI", "FITC"]


def test_a_recording_opens_by_any_of_its_files_and_by_its_folder(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tif")
    writer.begin(50, 40, False, dtype="uint16", sizes={"p": 2})
    for n in range(2):
        writer.add_frame(PIXELS[n, 0, 0])
    writer.finish()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 4
    for name in [*names, "exp.ome.tif", ""]:
        with open_dataset(tmp_path / name) as dataset:
            assert dataset.path == tmp_path / "exp.ome.tif"
            np.testing.assert_array_equal(dataset.read_image(p=1), PIXELS[1, 0, 0])
    other = BigTiffWriter(tmp_path / "exp_2.ome.tif")
    other.begin(50, 40, False, dtype="uint16", sizes={"t": 1})
    other.add_frame(PIXELS[0, 1, 1])
    other.finish()
    with open_dataset(tmp_path / "exp_2.ome.tif") as dataset:
        np.testing.assert_array_equal(dataset.read_image(), PIXELS[0, 1, 1])
    with pytest.raises(CorruptRecordingError, match=r"2 recordings; open one of them: exp.ome.tif"):
        open_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"exp.ome.tif, exp_2.ome.tif"):
        open_dataset(tmp_path / "expp.ome.tif")


@pytest.mark.parametrize("name", ["../b.ome.tif", "/b.ome.tif", "C:\\b.ome.tif", "a/../../b.tif"])
def test_a_name_in_ome_xml_that_leads_elsewhere_is_never_followed(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "b.ome.tif", PIXELS[1, 0])
    tifffile.imwrite(folder / "a.ome.tif", PIXELS[0, 0], metadata={"axes": "ZYX"})
    xml = tifffile.tiffcomment(folder / "a.ome.tif")
    uuid = f'<UUID FileName="{name}">urn:uuid:00000000-0000-0000-0000-000000000000</UUID>'
    block = '<TiffData IFD="0" PlaneCount="4"/>'
    assert block in xml
    xml = xml.replace(block, f'<TiffData IFD="0" PlaneCount="4">{uuid}</TiffData>')
    tifffile.tiffcomment(folder / "a.ome.tif", xml.encode())
    with pytest.raises(CorruptRecordingError, match="does not lie in"):
        open_dataset(folder / "a.ome.tif")
    assert files_of_set(folder / "a.ome.tif") == [folder / "a.ome.tif"]
