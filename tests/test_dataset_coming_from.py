"""Every line of docs/coming_from.md is run, and gives what the line beside it gave."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import yaml

from mda_writers import BigTiffWriter, open_dataset
from mda_writers.dataset.napari import get_reader
from mda_writers.formats.zarr.pyramid import halve
from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator


ROOT = Path(__file__).parent.parent
SIZES = {"p": 2, "t": 3, "c": 2, "z": 3}
SHAPE = (300, 40)


def frame(p: int = 0, t: int = 2, c: int = 1, z: int = 1) -> np.ndarray:
    return stamp({"p": p, "t": t, "c": c, "z": z}, SHAPE, "uint16")


def stack(p: int, t: int, c: int) -> np.ndarray:
    return np.stack([frame(p, t, c, z) for z in range(SIZES["z"])])


@pytest.fixture(autouse=True)
def no_pool() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record two positions beside one another."""
    import useq

    path = tmp_path_factory.mktemp("coming") / "exp.ome.tiff"
    sequence = useq.MDASequence(
        axis_order="ptcz",
        stage_positions=[(0, 0, 0), (20, 0, 0)],
        time_plan={"interval": 0, "loops": 3},
        channels=["DAPI", "FITC"],
        z_plan={"range": 4, "step": 2},
    )
    summary = {
        "sample": "A",
        "image_infos": [
            {"plane_shape": SHAPE, "dtype": "uint16", "pixel_size_um": 0.5, "camera_label": "Cam"}
        ],
    }
    writer = BigTiffWriter(path)
    writer.sequenceStarted(sequence, summary)
    for event in sequence:
        index = {str(axis): i for axis, i in event.index.items()}
        writer.frameReady(frame(**index), event, {"exposure_ms": 1.0})
    writer.sequenceFinished(sequence)
    assert writer.result().complete
    return path


WHOLE = np.stack([
    np.stack([np.stack([stack(p, t, c) for c in range(2)]) for t in range(3)]) for p in range(2)
])  # fmt: skip
AXES = {"p": ("p0", "p1"), "t": (0, 1, 2), "c": ("DAPI", "FITC"), "z": (0, 1, 2)}
POINT = 'channel="FITC", z=1, time=2, position=0'
EXPECTED: dict[str, Any] = {
    "dataset.read_image(t=2, p=1, c=0, z=1)": frame(1, 2, 0, 1),
    "dataset.isel(t=2, p=1, c=0)": stack(1, 2, 0),
    "dataset.isel(t=2, p=1, c=0, level=1)": np.stack([halve(f) for f in stack(1, 2, 0)]),
    "dataset.isel(x=slice(0, 8), y=slice(0, 4), c=0, z=1, t=2, p=1)": frame(1, 2, 0, 1)[:4, :8],
    "dataset.isel(x=0, c=0, t=2, p=1)": stack(1, 2, 0)[..., 0],
    "dataset.shape": (2, 3, 2, 3, *SHAPE),
    "dataset.shapes": [(2, 3, 2, 3, *SHAPE), (2, 3, 2, 3, 150, 20)],
    "dataset.voxel_size_um": (2.0, 0.5, 0.5),
    "dataset.nbytes": WHOLE.nbytes,
    f"dataset.read_image({POINT})": frame(),
    f"dataset.has_image({POINT})": True,
    'dataset.read_image(row=0, column=1, channel="FITC", z=1, time=2)': frame(p=1),
    "dataset.as_array()": WHOLE,
    'dataset.as_array(axes=["z", "time"], channel="FITC", position=0)': WHOLE[0, :, 1].swapaxes(
        0, 1
    ),
    'dataset.as_array(stitched=True, channel="FITC", z=1, time=2)': np.hstack(
        [frame(p=0), frame(p=1)]
    ),
    "dataset.axes": AXES,
    "dataset.channels": ["DAPI", "FITC"],
    'dataset.sizes["x"], dataset.sizes["y"]': (40, 300),
    "dataset.await_new_image(timeout_s=0.1)": False,
    "not dataset.is_live()": True,
    "dataset.close()": None,
    "viewer.add_image(dataset.as_array(), scale=(1, 1, 1, *dataset.voxel_size_um))": None,
    'plt.imshow(dataset.read_image(p=0, t=0, c="DAPI", z=0))': None,
    "[dataset.read_image(**coords) for coords in dataset.follow()]": list(
        WHOLE.reshape(-1, *SHAPE)
    ),
}
LENGTHS = {"list(dataset.image_coordinates)": 36, "dataset.frames": 36, "dataset.to_xarray()": 2}
SAMPLES = {
    "dataset.summary_metadata": ("sample", "A"),
    f"dataset.read_metadata({POINT})": ("exposure_ms", 1.0),
}


def rows() -> list[str]:
    text = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [re.findall(r"`([^`]+)`", line.rpartition(" | ")[2]) for line in lines]
    return [each[0] for each in found if each]


@pytest.mark.parametrize("row", rows())
def test_each_row_of_the_table_does_what_it_says(row: str, path: Path) -> None:
    if "to_xarray" in row:
        pytest.importorskip("xarray")
    names = {
        "viewer": SimpleNamespace(add_image=lambda array, scale: None),
        "plt": SimpleNamespace(imshow=lambda array: None),
    }
    with open_dataset(path) as dataset:
        result = eval(row, {"dataset": dataset, **names})
        check(result, row)


def check(result: Any, row: str) -> None:
    if row in LENGTHS:
        assert len(result) == LENGTHS[row]
    elif row in SAMPLES:
        name, value = SAMPLES[row]
        assert result[name] == value
    elif isinstance(EXPECTED[row], np.ndarray | list):
        np.testing.assert_array_equal(np.asarray(result), np.asarray(EXPECTED[row]))
    else:
        assert result == EXPECTED[row]


# ---------------------------------------------------------------- napari


def test_napari_gets_a_layer_a_channel_with_scale_and_names(path: Path) -> None:
    reader = get_reader(str(path))
    assert reader is not None
    layers = reader(str(path))
    assert [options["name"] for _, options, _ in layers] == ["DAPI", "FITC"]
    for n, (levels, options, kind) in enumerate(layers):
        assert kind == "image"
        assert options["scale"] == (1.0, 1.0, 2.0, 0.5, 0.5)
        assert options["units"] == ("pixel", "pixel", "micrometer", "micrometer", "micrometer")
        assert options["axis_labels"] == ("p", "t", "z", "y", "x")
        assert options["colormap"] == ("#0000FF", "#00FF00")[n]
        assert options["blending"] == "additive"
        assert options["multiscale"]
        np.testing.assert_array_equal(levels[0].compute(), WHOLE[:, :, n])
        assert levels[1].shape[-2:] == (150, 20)
    several = [str(path), str(path.with_name("exp_p0.ome.tiff"))]
    assert get_reader(several) is reader
    assert [options["name"] for _, options, _ in reader(several)] == ["DAPI", "FITC"]


def test_napari_asks_others_about_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    assert get_reader(str(tmp_path / "notes.txt")) is None
    assert get_reader(str(tmp_path / "nothing.tif")) is None


def test_the_manifest_names_a_function_that_exists() -> None:
    from importlib import import_module
    from importlib.resources import files

    manifest = yaml.safe_load((files("mda_writers") / "napari.yaml").read_text(encoding="utf-8"))
    commands = {each["id"]: each["python_name"] for each in manifest["contributions"]["commands"]}
    for reader in manifest["contributions"]["readers"]:
        module, name = commands[reader["command"]].split(":")
        assert callable(getattr(import_module(module), name))
