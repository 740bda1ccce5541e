"""Each position's own z and time plan, and the direction of its stacks, in every description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ome_types
import pytest
import tifffile
import useq
import zarr

from engine import StampedEngine
from mda_writers import BigTiffWriter, OMEZarrWriter, TiffSeriesWriter, convert, open_dataset
from mda_writers import record as run

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

S, P = useq.MDASequence, useq.Position
UP = {"range": 4, "step": 2}


@dataclass(frozen=True)
class Own:
    """What one position is: heights of its planes, and the time between its time points."""

    z_um: tuple[float, ...] = ()
    interval_s: float | None = None

    @property
    def step_um(self) -> float | None:
        """The distance of planes where it is one and the same."""
        steps = {round(float(n), 6) for n in np.diff(self.z_um)}
        return steps.pop() if len(steps) == 1 else None


def time(interval: float, loops: int) -> dict[str, Any]:
    return {"interval": interval, "loops": loops}


# a sequence, and what each of its images is
CASES: dict[str, tuple[S, list[Own]]] = {
    "own_steps": (
        S(
            stage_positions=[
                P(x=0, z=10, sequence=S(z_plan={"range": 2, "step": 1})),
                P(x=9, z=20, sequence=S(z_plan={"range": 6, "step": 3, "go_up": False})),
                P(x=18, z=30),
            ],
            z_plan={"range": 4, "step": 2},
        ),
        [Own((9, 10, 11)), Own((23, 20, 17)), Own((28, 30, 32))],
    ),
    "one_own_step_and_none_for_the_sequence": (
        S(stage_positions=[P(x=0, z=5), P(x=9, z=5, sequence=S(z_plan=UP))]),
        [Own(), Own((3, 5, 7))],
    ),
    "down_for_all": (
        S(
            stage_positions=[P(x=0, z=10), P(x=9, z=0)],
            z_plan={"above": 4, "below": 2, "step": 2, "go_up": False},
            channels=["DAPI", "FITC"],
        ),
        [Own((14, 12, 10, 8)), Own((4, 2, 0, -2))],
    ),
    "down_between_top_and_bottom_without_positions": (
        S(z_plan={"top": 30, "bottom": 20, "step": 2.5, "go_up": False}),
        [Own((30, 27.5, 25, 22.5, 20))],
    ),
    "absolute_and_even_downwards": (
        S(stage_positions=[(0, 0, 1), (9, 0, 2)], z_plan={"absolute": [9, 7, 5]}),
        [Own((9, 7, 5))] * 2,
    ),
    "absolute_and_reversed": (
        S(z_plan={"absolute": [1, 2, 3], "go_up": False}, channels=["DAPI"]),
        [Own((3, 2, 1))],
    ),
    "uneven": (
        S(
            stage_positions=[
                P(x=0, z=1, sequence=S(z_plan={"relative": [0, 1, 5]})),
                P(x=9, z=1, sequence=S(z_plan={"relative": [3, 1, -1]})),
            ],
            z_plan=UP,
        ),
        [Own((1, 2, 6)), Own((4, 2, 0))],
    ),
    "offsets_of_channels": (
        S(
            stage_positions=[P(x=0, z=1)],
            channels=[{"config": "DAPI", "z_offset": 1.5}, {"config": "FITC", "z_offset": -3}],
            z_plan={"range": 4, "step": 2, "go_up": False},
        ),
        [Own((4.5, 2.5, 0.5))],
    ),
    "own_intervals": (
        S(
            stage_positions=[
                P(x=0, z=0, sequence=S(time_plan=time(0.01, 3))),
                P(x=9, z=0, sequence=S(time_plan=time(0.02, 2))),
                P(x=18, z=0),
            ],
        ),
        [Own(interval_s=0.01), Own(interval_s=0.02), Own()],
    ),
    "phases_of_one_interval_and_of_several": (
        S(
            stage_positions=[
                P(x=0, sequence=S(time_plan=[time(0.01, 3), time(0.01, 2)])),
                P(x=9, sequence=S(time_plan=[time(0.01, 2), time(0.02, 3)])),
            ],
        ),
        [Own(interval_s=0.01), Own()],
    ),
    "phases_for_all": (S(time_plan=[time(0.01, 3), time(0.01, 2)]), [Own(interval_s=0.01)]),
    "different_phases_for_all": (S(time_plan=[time(0.01, 3), time(0.02, 3)]), [Own()]),
    "time_and_z": (
        S(
            axis_order="ptcz",
            stage_positions=[
                P(x=0, z=0, sequence=S(z_plan={"range": 2, "step": 1, "go_up": False})),
                P(x=9, z=5, sequence=S(z_plan=UP, axis_order="zc", channels=["Cy5"])),
            ],
            channels=["DAPI"],
            time_plan=time(0.01, 2),
        ),
        [Own((1, 0, -1), 0.01), Own((3, 5, 7), 0.01)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_ome_tiff_says_what_each_position_is(case: str, core: CMMCorePlus, tmp_path: Path) -> None:
    sequence, expected = CASES[case]
    core.mda.set_engine(StampedEngine(core))
    run(core, sequence, BigTiffWriter(tmp_path / "a.ome.tiff"), progress=False)
    images = {
        image.name: image
        for file in tmp_path.glob("*.tiff")
        for image in ome_types.from_tiff(file).images
    }
    assert len(images) == len(expected)
    for (_, image), own in zip(sorted(images.items()), expected, strict=True):
        pixels = image.pixels
        step = own.step_um
        assert pixels.physical_size_z == (None if step is None else pytest.approx(abs(step)))
        assert pixels.time_increment == own.interval_s
        if own.z_um:
            assert image.stage_label.z == pytest.approx(own.z_um[0])
            assert pixels.size_z == len(own.z_um)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("case", CASES)
def test_ngff_puts_each_plane_where_it_was(
    case: str, version: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    sequence, expected = CASES[case]
    core.mda.set_engine(StampedEngine(core))
    writer = OMEZarrWriter(tmp_path / "a.ome.zarr", ngff_version=version)
    run(core, sequence, writer, progress=False)
    convert(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr", progress=False)
    for store in ("a.ome.zarr", "b.ome.zarr"):
        root = zarr.open_group(tmp_path / store, mode="r")
        groups = [root] if len(expected) == 1 else [root[str(n)] for n in range(len(expected))]
        for group, own in zip(groups, expected, strict=True):
            about = dict(group.attrs)
            (scales,) = about.get("ome", about)["multiscales"]
            axes = [axis["name"] for axis in scales["axes"]]
            scale, shift = scales["datasets"][0]["coordinateTransformations"]
            if own.step_um is not None:
                z = axes.index("z")
                planes = shift["translation"][z] + scale["scale"][z] * np.arange(len(own.z_um))
                assert planes.tolist() == pytest.approx(list(own.z_um))
                assert scales["axes"][z]["unit"] == "micrometer"
            elif own.z_um:
                z = axes.index("z")
                assert "unit" not in scales["axes"][z]
                assert scale["scale"][z] == 1
            if own.interval_s is not None:
                assert scale["scale"][axes.index("t")] == pytest.approx(own.interval_s)


@pytest.mark.parametrize("case", CASES)
def test_to_xarray_has_the_steps_of_the_position(
    case: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    sequence, expected = CASES[case]
    core.mda.set_engine(StampedEngine(core))
    run(core, sequence, BigTiffWriter(tmp_path / "a.ome.tiff"), progress=False)
    convert(tmp_path / "a.ome.tiff", tmp_path / "b.ome.tiff", progress=False)
    for file in ("a.ome.tiff", "b.ome.tiff"):
        with open_dataset(tmp_path / file) as dataset:
            steps = {own.step_um for own in expected if own.z_um}
            common = steps.pop() if len(steps) == 1 else None
            assert dataset.voxel_size_um[0] == (None if common is None else abs(common))
            for p, own in enumerate(expected):
                array = dataset.to_xarray(**({"p": [p]} if "p" in dataset.axes else {}))
                if own.step_um is not None:
                    assert array.z.attrs["units"] == "µm"
                    assert array.z.values[: len(own.z_um)].tolist() == pytest.approx(
                        [n * own.step_um for n in range(len(own.z_um))]
                    )
                if own.interval_s is not None:
                    assert array.t.attrs["units"] == "s"
                    assert array.t.values[1] == pytest.approx(own.interval_s)


def test_imagej_gets_each_positions_own_spacing(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    run(core, CASES["own_steps"][0], TiffSeriesWriter(tmp_path), progress=False)
    found = []
    for file in sorted(tmp_path.rglob("*.tif")):
        with tifffile.TiffFile(file) as tif:
            assert tif.imagej_metadata is not None
            found.append(tif.imagej_metadata["spacing"])
    assert found == [1, 3, 2]


def test_steps_of_positions_survive_without_our_own_files(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    """OME-Zarr that was sent alone still says what each position is."""
    core.mda.set_engine(StampedEngine(core))
    run(core, CASES["own_steps"][0], OMEZarrWriter(tmp_path / "a.ome.zarr"), progress=False)
    (tmp_path / "a.ome.zarr").rename(tmp_path / "sent.ome.zarr")
    for file in tmp_path.glob("a.ome.zarr_*"):
        file.unlink()
    with open_dataset(tmp_path / "sent.ome.zarr") as dataset:
        assert dataset.voxel_size_um[0] is None
        found = [dataset.to_xarray(p=p).z.values.tolist() for p in range(3)]
        assert found == [[0, 1, 2], [0, -3, -6], [0, 2, 4]]
