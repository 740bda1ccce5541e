"""Arrays that exist already are saved whole, described, and never over something else."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import ome_types
import orjson
import pytest
import tifffile
import zarr

from contracts.disk import small_disk
from mda_writers import (
    DiskFullError,
    MetaData,
    OutputParameters,
    save_array,
    save_config_frames,
)
from mda_writers.writers import save_array as array_blocks
from tiff_reading import read_first_series

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def read_ome(path: Path) -> tuple[np.ndarray, str]:
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff and tif.is_ome
        pixels, axes = read_first_series(tif)
        assert axes.endswith("YXS") and pixels.shape[-1] == 1
        return pixels[..., 0], axes[:-1]


@pytest.mark.parametrize("order", ["".join(p) for p in permutations("TCZ")])
def test_every_order_of_axes_is_read_back_as_it_was(order: str, tmp_path: Path) -> None:
    array = noise(2, 3, 4, 16, 20)
    path = save_array(tmp_path / "a.ome.tiff", array, axes=f"{order}YX")
    pixels, axes = read_ome(path)
    assert axes == f"{order}YX"
    np.testing.assert_array_equal(pixels, array)


@pytest.mark.parametrize("axes", ["YX", "TYX", "ZYX", "CYX", "TZYX", "yx", "YXS", "TYXS", "CYXS"])
def test_axes_may_be_left_out(axes: str, tmp_path: Path) -> None:
    sizes = {"T": 2, "C": 4, "Z": 5, "Y": 16, "X": 20, "S": 3}
    array = noise(*(sizes[a] for a in axes.upper()), dtype="uint8")
    path = save_array(tmp_path / "a.ome.tif", array, axes=axes)
    np.testing.assert_array_equal(tifffile.imread(path), array)
    ome_types.from_tiff(path)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", ">u2", "uint32", "float32", ">f8", "complex64"]
)
def test_every_pixel_type_that_ome_knows_is_kept(dtype: str, tmp_path: Path) -> None:
    array = noise(3, 16, 20, dtype=dtype)
    found = tifffile.imread(save_array(tmp_path / "a.ome.tif", array, axes="TYX"))
    assert found.dtype == np.dtype(dtype).newbyteorder("<")
    np.testing.assert_array_equal(found, array)


def test_an_image_three_pixels_wide_is_not_coloured(tmp_path: Path) -> None:
    array = noise(5, 40, 3)
    path = save_array(tmp_path / "a.ome.tif", array, axes="TYX")
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 5
        assert tif.pages[0].samplesperpixel == 1
        np.testing.assert_array_equal(tif.asarray(), array)
    assert ome_types.from_tiff(path).images[0].pixels.size_t == 5


def test_what_is_said_is_in_the_file_and_in_the_sidecar(tmp_path: Path) -> None:
    path = save_array(
        tmp_path / "sim.ome.tiff",
        noise(2, 3, 16, 20),
        axes="CZYX",
        pixel_size_um=0.65,
        z_step_um=2,
        time_interval_s=1.5,
        channels=["DAPI", "µ-Probe"],
        metadata={"seed": 7, "model": {"kind": "beads"}, "by": "Zoë"},
        notes=["first", {"second": ["a", "b"]}],
    )
    ome = ome_types.from_tiff(path)
    pixels = ome.images[0].pixels
    assert (pixels.physical_size_x, pixels.physical_size_y, pixels.physical_size_z) == (
        0.65,
        0.65,
        2,
    )
    assert pixels.physical_size_z_unit.value == "µm"
    assert (pixels.time_increment, pixels.time_increment_unit.value) == (1.5, "s")
    assert [channel.name for channel in pixels.channels] == ["DAPI", "µ-Probe"]
    (note,) = ome.structured_annotations
    assert dict(note.value) == {"seed": "7", "model": '{"kind":"beads"}', "by": "Zoë"}
    text = tifffile.tiffcomment(path)
    assert "second" not in text
    sidecar = orjson.loads((tmp_path / "sim.ome.tiff_metadata.json").read_bytes())
    assert sidecar == {
        "axes": "CZYX",
        "shape": [2, 3, 16, 20],
        "dtype": "uint16",
        "pixel_size_um": 0.65,
        "z_step_um": 2,
        "time_interval_s": 1.5,
        "channels": ["DAPI", "µ-Probe"],
        "metadata": {"seed": 7, "model": {"kind": "beads"}, "by": "Zoë"},
        "notes": ["first", {"second": ["a", "b"]}],
    }


class Counting:
    """An array that notes how much of it was asked for at once."""

    def __init__(self, array: np.ndarray, chunks: tuple[int, ...] | None) -> None:
        self._array = array
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, chunks
        self.asked: list[tuple[int, ...]] = []

    def __getitem__(self, index: Any) -> np.ndarray:
        part = self._array[index]
        self.asked.append(part.shape)
        return part


def test_a_chunked_array_is_read_chunk_by_chunk_each_once(tmp_path: Path) -> None:
    array = Counting(noise(5, 7, 16, 20), chunks=(2, 3, 8, 8))
    path = save_array(tmp_path / "a.ome.tif", array, axes="TZYX")
    np.testing.assert_array_equal(tifffile.imread(path), array._array)
    assert max(n for n, *_ in array.asked) == 2
    assert sum(t * z for t, z, *_ in array.asked) == 35


def test_a_chunk_larger_than_memory_allows_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = Counting(noise(2, 9, 16, 20), chunks=(2, 9, 16, 20))
    monkeypatch.setattr(array_blocks, "MOST_BYTES", 4 * 16 * 20 * 2)
    path = save_array(tmp_path / "a.ome.tif", array, axes="TZYX")
    np.testing.assert_array_equal(tifffile.imread(path), array._array)
    assert max(t * z for t, z, *_ in array.asked) <= 4


def test_zarr_arrays_are_read_whatever_their_chunks(tmp_path: Path) -> None:
    array = noise(5, 3, 16, 20)
    stored = zarr.create_array(
        tmp_path / "in.zarr", shape=array.shape, dtype=array.dtype, chunks=(2, 3, 8, 16)
    )
    stored[:] = array
    np.testing.assert_array_equal(
        tifffile.imread(save_array(tmp_path / "a.ome.tif", stored, axes="TZYX")), array
    )


def test_dask_arrays_are_computed_block_by_block(tmp_path: Path) -> None:
    dask = pytest.importorskip("dask")
    dask_array = pytest.importorskip("dask.array")
    array = noise(5, 3, 16, 20)
    computed = []

    def block(part: np.ndarray) -> np.ndarray:
        computed.append(part.shape)
        return part + 1

    lazy = dask_array.from_array(array, chunks=((2, 2, 1), 3, 16, 20))
    lazy = lazy.map_blocks(block, dtype=array.dtype, meta=array[:0])
    with dask.config.set(scheduler="synchronous"):
        path = save_array(tmp_path / "a.ome.tif", lazy, axes="TZYX")
    np.testing.assert_array_equal(tifffile.imread(path), array + 1)
    assert len(computed) == 3


@pytest.mark.parametrize(
    ("array", "said", "why"),
    [
        (noise(2, 16, 20), {"axes": "YX"}, "one letter for each of its 3 axes"),
        (noise(2, 16, 20), {"axes": "QYX"}, "takes each of T, C, Z, Y, X and S"),
        (noise(2, 16, 20), {"axes": "YYX"}, "at most once"),
        (noise(16, 20, 2), {"axes": "YXT"}, "must end in YX"),
        (noise(16, 20, 4), {"axes": "YXS"}, "red, green and blue, not 4"),
        (noise(0, 16, 20), {"axes": "TYX"}, "nothing in it"),
        (noise(2, 16, 20), {"axes": "CYX", "channels": ["a"]}, "1 names, and the array has 2"),
        (noise(2, 16, 20), {"axes": "CYX", "channels": "ab"}, "takes a list of names"),
        (noise(2, 16, 20), {"axes": "TYX", "pixel_size_um": 0}, "greater than 0, not 0"),
        (noise(2, 16, 20), {"axes": "TYX", "z_step_um": float("nan")}, "greater than 0, not nan"),
        (noise(2, 16, 20), {"axes": "TYX", "time_interval_s": "1 s"}, "must be a number"),
        (noise(2, 16, 20, dtype="uint64"), {"axes": "TYX"}, "cannot hold pixels of type uint64"),
        (noise(2, 16, 20, dtype="bool"), {"axes": "TYX"}, "boolean; save array.astype"),
        ([[1, 2], [3]], {"axes": "YX"}, "inhomogeneous|differ in shape"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_disk_is_touched(
    array: Any, said: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=why):
        save_array(tmp_path / "new" / "a.ome.tif", array, **said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.tif", "a", "a.png", "a.npy"])
def test_other_suffixes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_array writes"):
        save_array(tmp_path / name, noise(16, 20), axes="YX")


def test_nothing_is_overwritten_by_accident(tmp_path: Path) -> None:
    path = save_array(tmp_path / "a.ome.tif", noise(16, 20), axes="YX", notes="old")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_array(path, noise(16, 20) + 1, axes="YX")
    assert path.read_bytes() == before
    save_array(path, noise(16, 20) + 1, axes="YX", overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(path), noise(16, 20) + 1)
    assert orjson.loads((tmp_path / "a.ome.tif_metadata.json").read_bytes())["notes"] is None


class Failing(Counting):
    def __getitem__(self, index: Any) -> np.ndarray:
        if len(self.asked) == 3:
            raise RuntimeError("the simulation diverged")
        return super().__getitem__(index)


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_an_array_that_fails_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    save_array(tmp_path / name, noise(6, 16, 20), axes="TYX")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError, match="diverged"):
        save_array(tmp_path / name, Failing(noise(6, 16, 20), None), axes="TYX", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_a_full_disk_is_told_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(DiskFullError, match=r"MB free, 10\.5 MB needed. Nothing was written"):
            save_array(disk / "new" / name, noise(8, 768, 768), axes="TYX")
        assert list(disk.iterdir()) == []


KILLED = """
import os, sys, numpy as np
from mda_writers import save_array
class Slow:
    shape, dtype = (9, 64, 64), np.dtype("u2")
    def __getitem__(self, index):
        if index[0].start == 5:
            os._exit(9)
        return np.ones((1, 64, 64), "u2")
save_array(sys.argv[1], Slow(), axes="TYX", overwrite=True)
"""


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = save_array(tmp_path / "a.ome.tif", noise(2, 16, 20), axes="TYX")
    before = path.read_bytes()
    child = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=os.environ.copy())
    assert child.returncode == 9
    assert path.read_bytes() == before


def test_ome_zarr_by_suffix(tmp_path: Path) -> None:
    array = noise(2, 3, 4, 16, 20)
    path = save_array(
        tmp_path / "a.ome.zarr",
        array,
        axes="TCZYX",
        pixel_size_um=0.5,
        z_step_um=2,
        channels=["a", "b", "c"],
        notes="made up",
    )
    group = zarr.open_group(path, mode="r")
    multiscale = group.attrs["ome"]["multiscales"][0]
    assert [axis["name"] for axis in multiscale["axes"]] == list("tczyx")
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale[2:] == [2, 0.5, 0.5]
    np.testing.assert_array_equal(group[multiscale["datasets"][0]["path"]][:], array)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.ome.zarr", "a.ome.zarr_metadata.json"]
    with pytest.raises(FileExistsError):
        save_array(path, array, axes="TCZYX")
    save_array(path, array + 1, axes="TCZYX", overwrite=True)
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group[multiscale["datasets"][0]["path"]][:], array + 1)


# ------------------------------------------------------------------------ save_config_frames


def test_the_example_of_the_documentation_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = MetaData(axes="TYX", notes="Example metadata")
    output_params = OutputParameters(output_path="./output", output_name="example")
    frames = np.random.rand(10, 256, 256)  # noqa: NPY002 - the example's own line
    save_config_frames(config, frames, output_params)
    path = tmp_path / "output" / "example.ome.tiff"
    pixels, _ = read_ome(path)
    assert ome_types.from_tiff(path).images[0].pixels.size_t == 10
    assert pixels.dtype == np.float64
    np.testing.assert_array_equal(pixels.squeeze(), frames)
    assert "Example metadata" not in tifffile.tiffcomment(path)
    for name in ("metadata.json", "example.ome.tiff_metadata.json"):
        written = orjson.loads((path.parent / name).read_bytes())
        assert written["axes"] == "TYX"
        assert written["notes"] == "Example metadata"


def test_all_metadata_but_the_notes_is_embedded(tmp_path: Path) -> None:
    config = MetaData(
        axes="TCYX",
        TimeIncrement=20,
        TimeIncrementUnit="ms",
        PhysicalSizeX=130,
        PhysicalSizeXUnit="nm",
        PhysicalSizeY=0.14,
        PhysicalSizeYUnit="um",
        PhysicalSizeZ=1,
        Channel={"Name": ["GFP", "RFP"]},
        notes=[{"cell": ["one", {"two": "nested"}]}, "text"],
    )
    save_config_frames(
        config, noise(3, 2, 16, 20), OutputParameters(output_path=tmp_path, output_name="a")
    )
    pixels = ome_types.from_tiff(tmp_path / "a.ome.tiff").images[0].pixels
    assert (pixels.time_increment, pixels.time_increment_unit.value) == (20, "ms")
    assert (pixels.physical_size_x, pixels.physical_size_x_unit.value) == (130, "nm")
    assert (pixels.physical_size_y, pixels.physical_size_y_unit.value) == (0.14, "µm")
    assert [channel.name for channel in pixels.channels] == ["GFP", "RFP"]
    written = orjson.loads((tmp_path / "metadata.json").read_bytes())
    assert written["notes"] == [{"cell": ["one", {"two": "nested"}]}, "text"]
    assert written["Channel"] == {"Name": ["GFP", "RFP"]}
    with tifffile.TiffFile(tmp_path / "a.ome.tiff") as tif:
        numerator, denominator = tif.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1e4 / 0.130, rel=1e-5)


def test_two_outputs_in_one_folder_keep_their_metadata(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_config_frames(
            MetaData(axes="TYX", notes=f"of {name}"),
            noise(3, 16, 20),
            OutputParameters(output_path=str(tmp_path), output_name=name),
        )
    for name in ("a", "b"):
        own = orjson.loads((tmp_path / f"{name}.ome.tiff_metadata.json").read_bytes())
        assert own["notes"] == f"of {name}"
    assert orjson.loads((tmp_path / "metadata.json").read_bytes())["notes"] == "of b"
    with pytest.raises(FileExistsError):
        save_config_frames(
            MetaData(axes="TYX"),
            noise(3, 16, 20),
            OutputParameters(output_path=str(tmp_path), output_name="a"),
        )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({}, "axes"),
        ({"axes": "TYX", "PhysicalSizeX": -1}, "greater than 0"),
        ({"axes": "TYX", "PhysicalSizeXUnit": "furlong"}, "'furlong' is no unit of OME"),
        ({"axes": "TYX", "TimeIncrementUnit": "µm"}, "is no unit of OME"),
        ({"axes": "TYX", "PhysicalSizex": 1}, "PhysicalSizex"),
    ],
)
def test_metadata_that_is_none_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        MetaData(**wrong)


def test_frames_that_do_not_fit_their_metadata_are_refused(tmp_path: Path) -> None:
    output = OutputParameters(output_path=tmp_path / "out", output_name="a")
    with pytest.raises(ValueError, match="one letter for each"):
        save_config_frames(MetaData(axes="TCYX"), noise(3, 16, 20), output)
    with pytest.raises(ValueError, match="3 names, and the array has 2"):
        save_config_frames(MetaData(axes="CYX", Channel=["a", "b", "c"]), noise(2, 16, 20), output)
    with pytest.raises(ValueError, match="is no file name"):
        OutputParameters(output_path=tmp_path, output_name="../up")
    assert list(tmp_path.iterdir()) == []
