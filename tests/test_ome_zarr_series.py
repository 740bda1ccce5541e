"""Several images in one OME-Zarr (bioformats2raw layout), as other readers find them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import ome_types
import pytest
import zarr

from mda_writers import OMEZarrWriter, record
from plans import NAMED, engine_for
from zarr_reading import read_with_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


def recorded(name: str, core: CMMCorePlus, path: Path, **options: Any) -> Path:
    """Return the store of the plan of that name."""
    core.mda.set_engine(engine_for(NAMED[name], core))
    record(core, NAMED[name].events(), [OMEZarrWriter(path, **options)], progress=False)
    return path


def series(path: Path) -> list[str]:
    """Return what the group ``OME`` lists."""
    attributes = dict(zarr.open_group(path / "OME", mode="r").attrs)
    return attributes.get("ome", attributes)["series"]


def attributes_of(group: Path) -> dict[str, Any]:
    attributes = dict(zarr.open_group(group, mode="r").attrs)
    return attributes.get("ome", attributes)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    "name",
    [
        "ragged_in_everything",
        "skipped_position",
        "names_in_unicode",
        "rgb_with_two_cameras",
        "cameras_of_other_sizes",
        "queue_growing_in_odd_order",
    ],
)
def test_ome_xml_describes_the_images_in_the_order_of_the_series(
    name: str, version: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    path = recorded(name, core, tmp_path / "exp.ome.zarr", ngff_version=version)
    if not (path / "OME").exists():
        assert "multiscales" in attributes_of(path)  # one image is the root itself
        return
    xml = (path / "OME" / "METADATA.ome.xml").read_bytes()
    described = ome_types.from_xml(xml, validate=True)
    assert len(described.images) == len(series(path)) > 0
    for image, place in zip(described.images, series(path), strict=True):
        array = zarr.open_array(path / place / "0", mode="r")
        multiscale = attributes_of(path / place)["multiscales"][0]
        sizes = {axis["name"]: n for axis, n in zip(multiscale["axes"], array.shape, strict=True)}
        pixels = image.pixels
        assert " ".join(multiscale["name"].split()) == image.name
        assert (sizes["y"], sizes["x"]) == (pixels.size_y, pixels.size_x)
        for axis in "tcz":
            assert getattr(pixels, f"size_{axis}") == sizes.get(axis, 1)
        assert sum(channel.samples_per_pixel or 1 for channel in pixels.channels) == pixels.size_c
        assert pixels.metadata_only
        assert not pixels.tiff_data_blocks
        assert pixels.dimension_order.value == "XYZCT"


def test_ome_xml_is_left_out_where_ome_knows_no_such_pixels(tmp_path: Path) -> None:
    path = tmp_path / "exp.ome.zarr"
    writer = OMEZarrWriter(path)
    writer.begin(16, 16, sizes={"p": 2}, dtype="uint64", is_color=False)
    for p in range(2):
        writer.add_frame(np.full((16, 16), p, np.uint64))
    writer.finish()
    assert series(path) == ["0", "1"]
    assert read_with_zarr(path / "1" / "0").ravel()[0] == 1
    assert not (path / "OME" / "METADATA.ome.xml").exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_py_finds_and_opens_every_image_of_a_series(
    version: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Multiscales, Reader
    from ome_zarr.utils import find_multiscales

    path = recorded("grid_row_wise_relative", core, tmp_path / "exp.ome.zarr", ngff_version=version)
    found = find_multiscales(path)
    assert [str(image[0]) for image in found] == [str(path / n) for n in series(path)]
    assert len(found) == 6
    for folder, name, _ in found:
        (node,) = Reader(parse_url(folder))()
        assert attributes_of(folder)["multiscales"][0]["name"] == name
        assert node.load(Multiscales)
        pixels = node.data[0].compute(scheduler="synchronous")
        np.testing.assert_array_equal(pixels, read_with_zarr(folder / "0"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_bioio_opens_every_image_of_a_series(
    version: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    # of the root itself, bioio-ome-zarr says that it does not support this layout
    bioio_ome_zarr = pytest.importorskip("bioio_ome_zarr")
    path = recorded("grid_row_wise_relative", core, tmp_path / "exp.ome.zarr", ngff_version=version)
    for place in series(path):
        reader = bioio_ome_zarr.Reader(path / place)
        assert reader.scenes == (attributes_of(path / place)["multiscales"][0]["name"],)
        np.testing.assert_array_equal(
            reader.xarray_data.values.squeeze(), read_with_zarr(path / place / "0").squeeze()
        )
