"""Single images, series and plates, with levels, as the field's own readers open them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import useq

from engine import StampedEngine
from mda_writers import OMEZarrWriter, record
from zarr_reading import read_with_zarr

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

pytestmark = [
    pytest.mark.usefixtures("no_thread_left"),
    pytest.mark.parametrize("version", ["0.4", "0.5"]),
    pytest.mark.parametrize("z_factor", [1, 2]),
    pytest.mark.parametrize("kind", ["image", "series", "plate"]),
]

POSITIONS: dict[str, Any] = {
    "image": (),
    "series": [(0, 0, 0), (100, 50, 10)],
    "plate": useq.WellPlatePlan(
        plate="24-well",
        a1_center_xy=(0, 0),
        selected_wells=([0, 1], [0, 2]),
        well_points_plan=useq.GridRowsColumns(rows=1, columns=2, fov_width=16, fov_height=16),
    ),
}
IMAGES = {"image": [""], "series": ["0", "1"], "plate": ["A/1/0", "A/1/1", "B/3/0", "B/3/1"]}


@pytest.fixture
def store(kind: str, version: str, z_factor: int, core: CMMCorePlus, tmp_path: Path) -> Path:
    core.mda.set_engine(StampedEngine(core))
    sequence = useq.MDASequence(
        stage_positions=POSITIONS[kind],
        channels=["DAPI", "FITC"],
        time_plan={"interval": 0.01, "loops": 2},
        z_plan={"range": 8, "step": 2},
    )
    path = tmp_path / "exp.ome.zarr"
    writer = OMEZarrWriter(path, ngff_version=version, levels=3, z_factor=z_factor)
    record(core, sequence, [writer], progress=False)
    return path


def test_ome_zarr_py_reads_every_level_at_its_place(store: Path, kind: str, z_factor: int) -> None:
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Plate, Reader

    for image in IMAGES[kind]:
        (node,) = Reader(parse_url(store / image))()
        assert len(node.data) == 3
        places = node.metadata["coordinateTransformations"]
        start = np.array(places[0][1]["translation"])
        for level, pixels in enumerate(node.data):
            stored = read_with_zarr(store / image / str(level))
            np.testing.assert_array_equal(pixels.compute(scheduler="synchronous"), stored)
            size = np.array([0.01, 1, 2 * z_factor**level, 0.5 * 2**level, 0.5 * 2**level])
            shift = (size - [0.01, 1, 2, 0.5, 0.5]) / 2
            np.testing.assert_allclose(places[level][0]["scale"], size)
            np.testing.assert_allclose(places[level][1]["translation"], start + shift)
    if kind == "plate":
        (node,) = Reader(parse_url(store))()
        assert isinstance(node.specs[0], Plate)
        assert node.data[0].shape[-2:] == (4 * 32, 6 * 32)


def test_bioio_reads_every_level_with_its_size(store: Path, kind: str, z_factor: int) -> None:
    bioio_ome_zarr = pytest.importorskip("bioio_ome_zarr")
    for image in IMAGES[kind]:
        reader = bioio_ome_zarr.Reader(store / image)
        assert reader.resolution_levels == (0, 1, 2)
        assert reader.channel_names == ["DAPI", "FITC"]
        for level in reader.resolution_levels:
            reader.set_resolution_level(level)
            stored = read_with_zarr(store / image / str(level))
            np.testing.assert_array_equal(reader.data, stored)
            assert tuple(reader.physical_pixel_sizes) == (
                2 * z_factor**level,
                0.5 * 2**level,
                0.5 * 2**level,
            )
