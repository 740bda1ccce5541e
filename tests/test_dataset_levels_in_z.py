"""Recordings whose levels have fewer planes along z, read back by `open_dataset`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mda_writers import OMEZarrWriter, open_dataset
from mda_writers.errors import CoordinateError
from mda_writers.formats.zarr.pyramid import halve
from zarr_reading import read_with_zarr

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")

SHAPE = (3, 2, 5, 40, 60)
VOLUME = np.random.default_rng(0).integers(0, 65535, SHAPE, "uint16", endpoint=True)
LEVELS = [SHAPE, (3, 2, 3, 20, 30), (3, 2, 2, 10, 15)]
FORMS: list[dict[str, Any]] = [{}, {"compression": "blosc-lz4"}, {"ngff_version": "0.4"}]


def begun(path: Path, **options: Any) -> OMEZarrWriter:
    writer = OMEZarrWriter(path, levels=3, z_factor=2, **options)
    sizes = dict(zip("tcz", SHAPE, strict=False))
    writer.begin(
        60, 40, is_color=False, dtype="uint16", sizes=sizes, z_step_um=2, pixel_size_um=0.5
    )
    return writer


def recorded(path: Path, **options: Any) -> Path:
    writer = begun(path, **options)
    for place in np.ndindex(3, 2, 5):
        writer.add_frame(VOLUME[place])
    writer.finish()
    return path


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("foreign", [False, True])
def test_every_level_has_its_own_planes(
    form: dict[str, Any], foreign: bool, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "a.ome.zarr", **form)
    if foreign:
        path = shutil.copytree(path, tmp_path / "elsewhere" / "b.ome.zarr")
    with open_dataset(path) as dataset:
        assert dataset.shapes[:3] == LEVELS
        assert dataset.voxel_size_um == (2, 0.5, 0.5)
        for level, shape in enumerate(LEVELS):
            stored = read_with_zarr(path / str(level))
            np.testing.assert_array_equal(dataset.isel(level=level), stored)
            np.testing.assert_array_equal(
                dataset.as_array(level=level).compute(scheduler="synchronous"), stored
            )
            last = shape[2] - 1
            np.testing.assert_array_equal(
                dataset.isel(level=level, t=1, z=last), stored[1, :, last]
            )
            np.testing.assert_array_equal(
                dataset.read_image(level=level, t=2, c=1, z=last), stored[2, 1, last]
            )
            with pytest.raises(CoordinateError, match=f"0 to {last}|{last}"):
                dataset.read_image(level=level, t=0, c=0, z=last + 1)


def test_labels_along_z_are_in_um_at_every_level(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    with open_dataset(recorded(tmp_path / "a.ome.zarr")) as dataset:
        found = [dataset.to_xarray(level=level).z.values.tolist() for level in range(3)]
    assert found == [[0, 2, 4, 6, 8], [0, 4, 8], [0, 8]]


def test_a_recording_that_goes_on_shows_no_plane_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    frames = np.random.default_rng(0).integers(0, 65535, (5, 40, 600), "uint16")
    writer = OMEZarrWriter(path, levels=3, z_factor=2)
    writer.begin(600, 40, is_color=False, dtype="uint16", sizes={"z": 5})
    for frame in frames[:3]:
        writer.add_frame(frame)
    writer.isel(z=0)
    with open_dataset(path) as dataset:
        assert dataset.shapes[1] == (5, 20, 300)  # halved here, in y and x
        shown = dataset.isel(level=1)
        for z, frame in enumerate(frames):
            np.testing.assert_array_equal(shown[z], halve(frame) if z < 3 else 0)
        for frame in frames[3:]:
            writer.add_frame(frame)
        writer.finish()
        dataset.refresh()
        assert dataset.shapes[1] == (3, 20, 300)
        np.testing.assert_array_equal(dataset.isel(level=1), read_with_zarr(path / "1"))


def test_a_recording_of_open_length_shows_levels_of_its_own_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    frames = np.random.default_rng(0).integers(0, 65535, (5, 40, 600), "uint16")
    writer = OMEZarrWriter(path, levels=2, z_factor=2)
    writer.begin(600, 40, is_color=False, dtype="uint16")
    for t, frame in enumerate(frames):
        writer.add_frame(frame)
        writer.isel(t=t)
        with open_dataset(path) as dataset:
            np.testing.assert_array_equal(dataset.read_image(level=1, t=t), halve(frame))
    writer.finish()
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.isel(level=1), read_with_zarr(path / "1"))
        np.testing.assert_array_equal(dataset.read_image(level=1, t=4), halve(frames[4]))


def test_planes_that_were_never_taken_are_missing_from_the_levels(tmp_path: Path) -> None:
    writer = begun(tmp_path / "a.ome.zarr")
    for place in ((0, 0, 4), (2, 1, 0)):
        writer.add_frame(VOLUME[place], index=dict(zip("tcz", place, strict=True)))
    writer.finish()
    with open_dataset(tmp_path / "a.ome.zarr") as dataset:
        assert [dataset.read_image(level=1, t=0, c=0, z=2).any()] == [True]
        with pytest.raises(CoordinateError, match="not on disk"):
            dataset.read_image(level=1, t=0, c=0, z=0)
        filled = dataset.as_array(level=1, fill_value=7).compute(scheduler="synchronous")
        assert (filled[1] == 7).all()
        assert (filled[0, 0, :2] == 7).all()
