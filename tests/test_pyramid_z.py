"""Levels that are smaller along z, too, against a plain reference computed from level 0."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import useq
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from mda_writers import OMEZarrWriter, record, recover
from mda_writers.formats.zarr.pyramid import mean_of, sums_of
from plans import Plan, engine_for
from zarr_reading import read_with_tensorstore, read_with_zarr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

YX = (11, 14)
FORMS: dict[str, dict[str, Any]] = {
    "sharded": {},
    "small_shards": {"shards": {"t": 2, "c": 1, "z": 2}},
    "tiles": {"chunks": {"y": 4, "x": 14}},
    "compressed": {"compression": "blosc-lz4"},
    "compressed_tiles": {"compression": "zstd", "chunks": {"y": 4}, "shards": {"z": 3}},
    "ngff_04": {"ngff_version": "0.4"},
    "ngff_04_compressed": {"ngff_version": "0.4", "compression": "blosc-zstd"},
}


def mean(voxels: np.ndarray) -> Any:
    """Return the mean of some voxels, rounded once, with numbers that have no limits."""
    if voxels.dtype.kind in "fc":
        return voxels.dtype.type(voxels.astype(np.result_type(voxels.dtype, float)).mean())
    total, count = sum(map(int, voxels.flat)), voxels.size
    return (2 * total + count) // (2 * count)


def smaller(planes: Mapping[int, np.ndarray], z_factor: int) -> dict[int, np.ndarray]:
    """Return the planes of the next level, from those of one stack that were taken."""
    height, width = (-(-n // 2) for n in next(iter(planes.values())).shape)
    made = {}
    for slab in {z // z_factor for z in planes}:
        stack = np.stack([planes[z] for z in sorted(planes) if z // z_factor == slab])
        edges = [(0, 0), *((0, n % 2) for n in stack.shape[1:])]
        stack = np.pad(stack, edges, mode="edge")
        plane = np.empty((height, width), stack.dtype)
        for y, x in np.ndindex(height, width):
            plane[y, x] = mean(stack[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2])
        made[slab] = plane
    return made


def check(path: Path, taken: Mapping[tuple[int, ...], np.ndarray], levels: int, z: int) -> None:
    """Check every voxel of all levels of an image; the last index of `taken` is that of z."""
    expected = dict(taken)
    for level in range(levels):
        found = read_with_zarr(path / str(level))
        np.testing.assert_array_equal(found, read_with_tensorstore(path / str(level)))
        holds = np.zeros(found.shape[:-2], bool)
        for place, plane in expected.items():
            np.testing.assert_array_equal(found[place], plane, err_msg=f"level {level}, {place}")
            holds[place] = True
        assert not found[~holds].any()
        depth = max(place[-1] for place in taken) + 1
        assert max(place[-1] for place in expected) + 1 <= found.shape[-3] or depth == 0
        stacks: dict[tuple[int, ...], dict[int, np.ndarray]] = {}
        for place, plane in expected.items():
            stacks.setdefault(place[:-1], {})[place[-1]] = plane
        expected = {
            (*stack, slab): plane
            for stack, planes in stacks.items()
            for slab, plane in smaller(planes, z).items()
        }


def noise(dtype: str, *shape: int) -> np.ndarray:
    """Return voxels all over the range of a type, with its limits side by side."""
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind in "fc":
        return (rng.standard_normal(shape) * 1e4).astype(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    limits = np.iinfo(kind)
    values = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    values[..., :4, :4] = limits.max
    values[..., 4:8, :4] = limits.min
    return values


def recorded(
    path: Path,
    volume: np.ndarray,
    sizes: Mapping[str, int] | None,
    places: Iterable[tuple[int, ...]] | None = None,
    **options: Any,
) -> dict[tuple[int, ...], np.ndarray]:
    """Record the planes of a volume; return those that were taken by their place in NGFF's order.

    The volume's axes are `sizes`; `places` are those to take, by default all in their order.
    """
    writer = OMEZarrWriter(path, **options)
    writer.begin(
        volume.shape[-1], volume.shape[-2], is_color=False, dtype=volume.dtype, sizes=sizes
    )
    axes = list(sizes or {"t": 0, "c": 0, "z": 0})
    order = [axes.index(axis) for axis in ("t", "c", "z") if axis in axes]
    taken = {}
    for place in np.ndindex(volume.shape[:-2]) if places is None else places:
        writer.add_frame(volume[place], index=dict(zip(axes, place, strict=True)))
        taken[tuple(place[n] for n in order)] = volume[place]
    writer.finish()
    return taken


# ---------------------------------------------------------------- the mean


@pytest.mark.parametrize(
    "dtype",
    [
        *(f"{kind}int{bits}" for kind in ("u", "") for bits in (8, 16, 32, 64)),
        *("bool", "float16", "float32", "complex64"),
    ],
)
@pytest.mark.parametrize("depth", [1, 4, 5, 7])
def test_every_voxel_is_one_exact_mean(dtype: str, depth: int, tmp_path: Path) -> None:
    volume = noise(dtype, depth, *YX)
    taken = recorded(tmp_path / "a.zarr", volume, {"z": depth}, levels=3, z_factor=4)
    check(tmp_path / "a.zarr", taken, 3, 4)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_means_of_doubles_are_as_exact_as_doubles_are(depth: int) -> None:
    volume = noise("float64", depth, 2, 2)
    found = mean_of(sum(sums_of(plane, 4) for plane in volume), depth, 4, volume.dtype)
    exact = sum(map(Fraction, volume.ravel().tolist())) / volume.size
    np.testing.assert_allclose(found, float(exact), rtol=0, atol=np.abs(volume).max() * 4e-16)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_mean_of_the_largest_floats_is_no_infinity(dtype: str) -> None:
    largest = np.full((3, 4, 4), np.finfo(dtype).max, dtype)
    total = sum(sums_of(plane, 4) for plane in largest)
    np.testing.assert_array_equal(mean_of(total, 3, 4, largest.dtype), largest[0, :2, :2])


def test_sums_of_the_largest_integers_fit_for_every_factor() -> None:
    for dtype, planes in product(["uint8", "uint16", "uint32", "uint64", "int64"], [1, 2, 63, 64]):
        plane = np.full((2, 2), np.iinfo(dtype).max, dtype)
        total = sum(sums_of(plane, 64) for _ in range(planes))
        assert mean_of(total, planes, 64, plane.dtype) == np.iinfo(dtype).max


# ---------------------------------------------------------------- whole recordings


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("order", ["tcz", "tzc", "zct", "ztc"])
def test_levels_are_the_same_in_every_form_and_order(
    form: dict[str, Any], order: str, tmp_path: Path
) -> None:
    sizes = {axis: {"t": 3, "c": 2, "z": 5}[axis] for axis in order}
    volume = noise("uint16", *sizes.values(), *YX)
    taken = recorded(tmp_path / "a.zarr", volume, sizes, levels=3, z_factor=2, **form)
    check(tmp_path / "a.zarr", taken, 3, 2)
    shapes = [read_with_zarr(tmp_path / "a.zarr" / str(n)).shape for n in range(3)]
    assert [shape[:3] for shape in shapes] == [(3, 2, 5), (3, 2, 3), (3, 2, 2)]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_sizes_factor_order_and_missing_planes(data: st.DataObject) -> None:
    order = data.draw(st.permutations(["t", "c", "z"]))
    lengths = {"t": st.integers(1, 3), "c": st.integers(1, 2), "z": st.integers(1, 9)}
    sizes = {axis: data.draw(lengths[axis]) for axis in order}
    every = list(np.ndindex(*sizes.values()))
    places = data.draw(st.permutations(every))[: data.draw(st.integers(1, len(every)))]
    z_factor = data.draw(st.sampled_from([2, 4, 8]))
    levels = data.draw(st.integers(2, 4))
    form = data.draw(st.sampled_from(list(FORMS.values())))
    known = data.draw(st.booleans())
    volume = noise("uint8", *sizes.values(), 5, 6)
    if not known:
        volume, sizes = volume.transpose([*map(order.index, "tcz"), 3, 4]), {}
        places = [tuple(place[order.index(axis)] for axis in "tcz") for place in places]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zarr"
        taken = recorded(
            path, volume, sizes or None, places, levels=levels, z_factor=z_factor, **form
        )
        check(path, taken, levels, z_factor)


def test_colour_frames_are_averaged_by_colour(tmp_path: Path) -> None:
    volume = noise("uint8", 5, *YX, 3)
    writer = OMEZarrWriter(tmp_path / "a.zarr", levels=3, z_factor=2)
    writer.begin(YX[1], YX[0], is_color=True, dtype="uint8", sizes={"z": 5})
    for frame in volume:
        writer.add_frame(frame)
    writer.finish()
    taken = {(c, z): volume[z, ..., c] for c in range(3) for z in range(5)}
    check(tmp_path / "a.zarr", taken, 3, 2)


def test_plans_with_missing_planes_and_several_positions(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(engine_for(Plan("", lambda: ()), core))
    sequence = useq.MDASequence(
        axis_order="tpcz",
        stage_positions=[(0, 0, 0), (100, 50, 10)],
        time_plan={"interval": 0, "loops": 3},
        channels=[
            "DAPI",
            {"config": "FITC", "do_stack": False},
            {"config": "Cy5", "acquire_every": 2},
        ],
        z_plan={"range": 8, "step": 2},
    )
    path = tmp_path / "exp.ome.zarr"
    writer = OMEZarrWriter(path, levels=3, z_factor=2)
    frames: dict[int, dict[tuple[int, ...], np.ndarray]] = {0: {}, 1: {}}

    def keep(image: np.ndarray, event: useq.MDAEvent) -> None:
        i = event.index
        frames[i["p"]][i["t"], i["c"], i["z"]] = image

    core.mda.events.frameReady.connect(keep)
    record(core, sequence, [writer], progress=False)
    for p, taken in frames.items():
        assert len(taken) == 3 * 5 + 3 + 2 * 5
        check(path / str(p), taken, 3, 2)
        datasets = zarr.open_group(path / str(p), mode="r").attrs["ome"]["multiscales"][0][
            "datasets"
        ]
        placed = [
            [
                each[kind]
                for each, kind in zip(
                    d["coordinateTransformations"], ("scale", "translation"), strict=True
                )
            ]
            for d in datasets
        ]
        scale, origin = (np.array(each) for each in placed[0])
        for level in range(3):
            factor = np.array([1, 1, 2**level, 2**level, 2**level])
            np.testing.assert_allclose(placed[level][0], scale * factor)
            np.testing.assert_allclose(placed[level][1], origin + (factor - 1) / 2 * scale)


def test_a_single_plane_is_never_said_to_be_thicker(tmp_path: Path) -> None:
    recorded(tmp_path / "a.zarr", noise("uint8", 3, *YX), {"z": 3}, levels=5, z_factor=2)
    datasets = zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["multiscales"][0]["datasets"]
    steps = [each["coordinateTransformations"][0]["scale"][0] for each in datasets]
    origins = [each["coordinateTransformations"][1]["translation"][0] for each in datasets]
    assert steps == [1, 2, 4, 4, 4]
    assert origins == [0, 0.5, 1.5, 1.5, 1.5]


# ---------------------------------------------------------------- interrupted recordings


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("order", ["tcz", "ztc", ""])
def test_recover_brings_the_levels_into_their_final_form(
    form: dict[str, Any], order: str, tmp_path: Path
) -> None:
    sizes = {axis: {"t": 3, "c": 2, "z": 5}[axis] for axis in order} or None
    volume = noise("uint16", *(sizes or {"t": 3, "c": 2, "z": 5}).values(), *YX)
    writer = OMEZarrWriter(tmp_path / "live" / "a.zarr", levels=3, z_factor=2, **form)
    writer.begin(YX[1], YX[0], is_color=False, dtype="uint16", sizes=sizes)
    axes = order or "tcz"
    taken = {}
    places = list(np.ndindex(volume.shape[:3]))
    for number, place in enumerate(places, 1):
        writer.add_frame(volume[place], index=dict(zip(axes, place, strict=True)))
        taken[tuple(place[axes.index(axis)] for axis in "tcz")] = volume[place]
        if number in (1, 8, 9, 24, 30):
            writer.isel(**dict(zip(axes, place, strict=True)))  # all of them are in their files
            torn = shutil.copytree(tmp_path / "live", tmp_path / str(number))
            again = shutil.copytree(torn, tmp_path / f"{number} again")
            recover(torn / "a.zarr")
            check(torn / "a.zarr", taken, 3, 2)
            # a journal that knows less than the files: the process died in between
            journal = again / "a.zarr_frames.jsonl"
            lines = journal.read_bytes().splitlines(keepends=True)
            journal.write_bytes(b"".join(lines[:-1]))
            if number > 1:
                recover(again / "a.zarr")
                check(again / "a.zarr", dict(list(taken.items())[:-1]), 3, 2)
    writer.finish()


RECORDER = """
import sys, time
import numpy as np
from mda_writers import OMEZarrWriter

path, form = sys.argv[1], eval(sys.argv[2])
volume = np.random.default_rng(0).integers(0, 65535, (200, 2, 5, 11, 14), "uint16")
writer = OMEZarrWriter(path, levels=3, z_factor=2, **form)
writer.begin(14, 11, is_color=False, dtype="uint16", sizes=dict(zip("tcz", volume.shape)))
for place in np.ndindex(200, 2, 5):
    writer.add_frame(volume[place])
    time.sleep(0.0005)
sys.stdin.read()
"""


@pytest.mark.sample(4)
@pytest.mark.parametrize("frames", [7, 300, 900])
@pytest.mark.parametrize(
    "form", [{}, {"compression": "blosc-lz4"}, {"ngff_version": "0.4"}], ids=str
)
def test_a_killed_recording_gets_the_levels_of_what_reached_the_disk(
    form: dict[str, Any], frames: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.zarr"
    command = [sys.executable, "-c", RECORDER, str(path), repr(form)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 60
        while len(journalled(path)) < frames and time.monotonic() < deadline:
            time.sleep(0.001)
        child.kill()
    places = journalled(path)
    assert len(places) >= frames
    volume = np.random.default_rng(0).integers(0, 65535, (200, 2, 5, 11, 14), "uint16")
    recover(path)
    check(path, {place: volume[place] for place in places}, 3, 2)


RECOVERER = """
import sys
from mda_writers import recover

print(flush=True)
sys.stdin.readline()
recover(sys.argv[1])
"""


@pytest.mark.parametrize(
    "form", [{"shards": {"t": 2}}, {"compression": "blosc-lz4"}, {"ngff_version": "0.4"}], ids=str
)
def test_recover_may_be_killed_at_any_moment_and_repeated(
    form: dict[str, Any], tmp_path: Path
) -> None:
    volume = noise("uint16", 20, 2, 7, *YX)
    writer = OMEZarrWriter(tmp_path / "live" / "a.zarr", levels=3, z_factor=2, **form)
    writer.begin(YX[1], YX[0], is_color=False, dtype="uint16", sizes={"t": 20, "c": 2, "z": 7})
    places = [place for place in np.ndindex(19, 2, 7) if place != (3, 1, 2)][:-3]
    for place in places:
        writer.add_frame(volume[place], index=dict(zip("tcz", place, strict=True)))
    writer.isel(t=0)
    path = shutil.copytree(tmp_path / "live", tmp_path / "torn") / "a.zarr"
    writer.finish()
    for file in [file for file in (path / "1").rglob("0") if file.is_file()]:
        file.with_name(".0.4711.tmp").write_bytes(b"half of it")
    moments = random.Random(0)
    for _ in range(4):
        command = [sys.executable, "-c", RECOVERER, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdout.readline()
            child.stdin.write(b"\n")
            child.stdin.flush()
            time.sleep(moments.uniform(0, 0.3))
            child.kill()
    assert recover(path).frames_written == len(places)
    check(path, {place: volume[place] for place in places}, 3, 2)
    assert not [file for file in path.rglob("*") if file.name.endswith((".tmp", ".partial"))]


def journalled(path: Path) -> list[tuple[int, ...]]:
    """Return the places of the frames that have a whole line in the journal."""
    journal = path.with_name("a.zarr_frames.jsonl")
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    entries = [orjson.loads(line) for line in lines]
    return [tuple(e["frame"]["mda_writers"]["place"]) for e in entries if "frame" in e]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"z_factor": 3, "levels": 2}, "1, 2, 4, 8, 16, 32, 64"),
        ({"z_factor": 0, "levels": 2}, "1, 2, 4"),
        ({"z_factor": 2.5, "levels": 2}, "1, 2, 4"),
        ({"z_factor": "2", "levels": 2}, "1, 2, 4"),
        ({"z_factor": 128, "levels": 2}, "1, 2, 4"),
        ({"z_factor": 2}, "levels of 2 or more"),
    ],
)
def test_impossible_factors_are_refused_with_what_is_possible(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        OMEZarrWriter(tmp_path / "a.zarr", **options)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- room on the disk


@pytest.mark.parametrize("sizes", [{"z": 40, "t": 2}, None], ids=["planned", "open"])
def test_room_for_levels_that_are_made_at_the_end_is_left(
    sizes: dict[str, int] | None, tmp_path: Path
) -> None:
    volume = noise("uint16", 40, 2, 64, 64)
    writer = OMEZarrWriter(tmp_path / "a.zarr", levels=3, z_factor=2, compression="zstd")
    writer.begin(64, 64, is_color=False, dtype="uint16", sizes=sizes)
    for z, t in np.ndindex(40, 2):
        writer.add_frame(volume[z, t], index={"z": z, "t": t})
    writer.isel(z=39, t=1)
    assert writer._run is not None
    owed = writer._run.pool.bytes_under_way()
    writer.finish()
    made = sum(read_with_zarr(tmp_path / "a.zarr" / str(level)).nbytes for level in (1, 2))
    assert made <= owed <= 1.5 * made
