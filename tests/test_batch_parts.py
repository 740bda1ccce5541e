"""One large recording by many hands: the result is the same, bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import tifffile

from batch_recordings import recorded
from mda_writers import BigTiffWriter, convert, open_dataset, record, verify
from mda_writers.batch import BatchError, jobs, project, projection, trace, verify_all
from mda_writers.batch.conversion import Convert
from mda_writers.batch.executor import Workers
from mda_writers.batch.provenance import InputFile
from mda_writers.model import frame
from plans import PLANS, Plan, engine_for
from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

SPLIT_PLANS = {
    "ragged_in_everything": True, "wells_with_a_grid_of_fields": True, "list_of_events": False,
    "events_with_custom_axes": False, "single_frame": True, "skipped_by_number": True,
    "skipped_position": True, "names_twice": True, "two_cameras_on_ragged_positions": True,
    "three_cameras": True, "cameras_of_three_sizes": False, "rgb_16_bit": True,
    "rgb_with_two_cameras": True,
}  # fmt: skip
"""Name → whether it is shared: not where the place of a frame depends on those before it."""


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part be ten frames of 32 × 32, instead of gigabytes; and threads be a cluster."""
    monkeypatch.setattr(frame, "PART_BYTES", 10 * 2048)
    monkeypatch.setattr(projection, "PIECE_BYTES", 8 * 2048)
    monkeypatch.setattr(Convert, "busy_alone", False)


def several_positions(path: Path, frames: int = 9) -> Path:
    """Write two positions of two channels, some frames of the second left out."""
    writer = BigTiffWriter(path)
    sizes = {"t": frames, "p": 2, "c": 2}
    writer.begin(32, 32, dtype="uint16", sizes=sizes, channels=["DAPI", "FITC"])
    for t in range(frames):
        for p in range(2):
            for c in range(2):
                index = {"t": t, "p": p, "c": c}
                if (t % 3, p, c) != (1, 1, 1):
                    writer.add_frame(stamp(index, (32, 32), "uint16"), index=index)
    writer.finish()
    return path


def shown(path: Path) -> Any:
    """Return what a result holds: pixels and what is known of each frame, or the bytes."""
    if path.suffix == ".csv":
        return path.read_bytes()
    with open_dataset(path) as dataset:
        places = list(dataset.image_coordinates)
        return [
            (at, dataset.read_image(**at).tobytes(), dataset.read_metadata(**at)) for at in places
        ]


def in_parts_and_whole(
    work: Callable[..., object], source: Path, name: str, tmp_path: Path, **options: Any
) -> tuple[Path, Path]:
    """Do the same work twice, and return both results."""
    split, whole = tmp_path / "split" / name, tmp_path / "whole" / name
    work(source, whole, workers=1, progress=False, **options)  # one worker splits nothing
    work(source, split, workers=2, progress=False, **options)
    return split, whole


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the calls that workers share from now on."""
    made: list[str] = []
    shared = Workers.map

    def map_and_note(self: Workers, function: Any, calls: Any) -> Any:
        if self.several and function != InputFile.of:
            made.extend(function.__name__ for _ in calls)
        return shared(self, function, calls)

    monkeypatch.setattr(Workers, "map", map_and_note)
    return made


@pytest.mark.usefixtures("small_parts", "no_thread_left")
def test_a_trace_in_parts_is_the_trace(counted: list[str], tmp_path: Path) -> None:
    source = several_positions(tmp_path / "a.ome.tiff")
    split, whole = in_parts_and_whole(
        trace, source, "a.csv", tmp_path, regions={"soma": (1, 5, 2, 30)}
    )
    assert len(counted) >= 3
    assert split.read_bytes() == whole.read_bytes()
    assert len(split.read_bytes().splitlines()) == 1 + 9 * 4 - 3


@pytest.mark.usefixtures("small_parts", "no_thread_left")
@pytest.mark.parametrize("axes", ["t", "c", "tc"])
def test_a_projection_in_parts_is_the_projection(
    axes: str, counted: list[str], tmp_path: Path
) -> None:
    source = several_positions(tmp_path / "a.ome.tiff")
    split, whole = in_parts_and_whole(project, source, "p.ome.tiff", tmp_path, axes=axes)
    assert len(counted) >= 3
    for p in range(2):
        name = f"p_p{p}.ome.tiff"
        one, other = (tifffile.imread(f.parent / name, series=0) for f in (split, whole))
        assert np.array_equal(one, other)
    assert len(shown(split)) == len(shown(whole)) > 0


@pytest.mark.usefixtures("small_parts", "no_thread_left")
def test_pixels_of_the_other_byte_order_are_projected_in_parts(
    counted: list[str], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (30, 32, 32)).astype(">u2")
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=">", metadata={"axes": "TYX"})
    split, whole = in_parts_and_whole(project, tmp_path / "a.tif", "p.ome.tiff", tmp_path, axes="t")
    assert len(counted) == 4  # of eight frames, three times, and of the rest
    expected = pixels.max(axis=0)
    assert np.array_equal(tifffile.imread(split), expected)
    assert np.array_equal(tifffile.imread(whole), expected)


@pytest.mark.usefixtures("small_parts", "no_thread_left")
@pytest.mark.parametrize("results", [True, False])
def test_verifying_in_parts_finds_what_verifying_finds(
    results: bool, counted: list[str], tmp_path: Path
) -> None:
    source = recorded(tmp_path / "a.ome.tiff", frames=20)
    folder = {"results": tmp_path / "out"} if results else {}
    assert verify_all(source, progress=False, workers=2, **folder).ok
    assert len(counted) == 5
    content = bytearray(source.read_bytes())
    for number in (3, 17, 38):
        content[4096 + number * 2048 + 5] ^= 1
    source.write_bytes(content)
    expected = verify(source, progress=False)
    assert [fault.number for fault in expected.faults] == [3, 17, 38]
    with pytest.raises(BatchError) as caught:
        verify_all(source, progress=False, workers=2, **folder, overwrite=True)
    assert str(expected) == caught.value.summary.results[0].reason
    if results:
        told = orjson.loads((tmp_path / "out" / "a_verify.json").read_bytes())
        assert [fault["number"] for fault in told["faults"]] == [3, 17, 38]
        assert told["frames_checked"] == 40
        assert told["bytes_read"] == 40 * 2048


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = recorded(tmp_path / "a.ome.tiff", frames=20)
    whole = projection._maxima_of

    def maxima_of(source: Any, pieces: Any) -> Any:
        if pieces[0][2][0].any():
            raise ValueError("no more of this")
        return whole(source, pieces)

    monkeypatch.setattr(projection, "_maxima_of", maxima_of)
    with pytest.raises(BatchError, match="no more of this"):
        project(source, tmp_path / "out" / "p.ome.tiff", axes="t", workers=2, progress=False)
    assert list((tmp_path / "out").iterdir()) == []


SLOW = """
import sys, time
from mda_writers.model import frame
from mda_writers.batch import projection, project

maxima_of = projection._maxima_of

def slowly(*arguments):
    time.sleep(0.3)
    print("done", flush=True)
    return maxima_of(*arguments)

projection._maxima_of = slowly
projection.PIECE_BYTES = frame.PART_BYTES = 5 * 2048
project(sys.argv[1], sys.argv[2], axes="t", workers=2, progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT does not reach a single child there")
def test_ctrl_c_ends_the_shared_work_and_leaves_nothing(tmp_path: Path) -> None:
    source, out = recorded(tmp_path / "a.ome.tiff", frames=40), tmp_path / "out" / "p.ome.tiff"
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(source), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    done, _ = child.communicate(timeout=60)
    assert child.returncode != 0
    assert len(done.splitlines()) < 10  # of sixteen
    assert list(out.parent.iterdir()) == []
    project(source, out, axes="t", workers=2, progress=False)
    with open_dataset(source) as before:
        assert np.array_equal(tifffile.imread(out), before.isel().max(axis=0))


# ---------------------------------------------------------------- conversion to OME-Zarr


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def told(path: Path) -> dict[str, Any]:
    content = orjson.loads(path.with_name(path.name + "_recording.json").read_bytes())
    timed = ("path", "paths", "seconds", "mb_per_s", "interval_ms_median", "interval_ms_max")
    content["report"] = {k: v for k, v in content["report"].items() if k not in timed}
    return {name: content[name] for name in ("report", "layout", "runs", "summary_metadata")}


def assert_same_recording(split: Path, whole: Path) -> None:
    """Every file of the folder, every frame's metadata, and the report but for its times."""
    assert files_of(split) == files_of(whole)
    sidecars = [path.with_name(f"{path.name}_frame_metadata.json") for path in (split, whole)]
    assert sidecars[0].read_bytes() == sidecars[1].read_bytes()
    assert told(split) == told(whole)
    assert verify(split, progress=False).intact


@pytest.mark.usefixtures("small_parts", "no_thread_left")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"levels": 3},
        {"levels": 2, "shards": {"t": 3, "c": 2}},
        {"compression": "blosc-lz4", "levels": 2},
        {"compression": "zstd", "chunks": {"y": 16, "x": 16}, "shards": {"t": 2}},
    ],
    ids=str,
)
def test_an_ome_zarr_made_of_parts_is_the_one_that_is_made_as_a_whole(
    options: dict[str, Any], counted: list[str], tmp_path: Path
) -> None:
    source = several_positions(tmp_path / "a.ome.tiff")
    split, whole = in_parts_and_whole(convert, source, "b.ome.zarr", tmp_path, **options)
    assert len(counted) >= 2
    assert_same_recording(split, whole)


@pytest.mark.usefixtures("small_parts")
def test_one_machine_converts_as_a_whole(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Convert, "busy_alone", True)
    source = several_positions(tmp_path / "a.ome.tiff")
    convert(source, tmp_path / "b.ome.zarr", workers=2, progress=False)
    assert counted == []


@pytest.mark.usefixtures("small_parts", "no_thread_left")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_has_no_checksums_or_no_shards_is_converted_as_a_whole(
    version: str, counted: list[str], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (15, 2, 32, 32), dtype="uint16")
    tifffile.imwrite(tmp_path / "x.ome.tif", pixels, metadata={"axes": "TCYX"})
    out = tmp_path / "x.ome.zarr"
    convert(tmp_path / "x.ome.tif", out, progress=False, levels=2, ngff_version=version)
    source = several_positions(tmp_path / "a.ome.tiff")
    convert(source, tmp_path / "a.ome.zarr", workers=2, progress=False, ngff_version="0.4")
    assert counted == []
    with open_dataset(out) as dataset:
        assert np.array_equal(dataset.isel(), pixels)
        assert dataset.complete


@pytest.mark.usefixtures("no_thread_left")
@pytest.mark.parametrize("plan", [p for p in PLANS if p.name in SPLIT_PLANS], ids=str)
def test_every_kind_of_plan_is_converted_in_parts(
    plan: Plan,
    core: CMMCorePlus,
    counted: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    source = tmp_path / "a.ome.tiff"
    record(core, plan.events(), BigTiffWriter(source), progress=False)
    with open_dataset(source) as dataset:
        frame_bytes = dataset.nbytes // int(np.prod(dataset.shape[: len(dataset.axes)]))
    monkeypatch.setattr(frame, "PART_BYTES", 2 * frame_bytes)
    monkeypatch.setattr(jobs, "are_worth_it", lambda nbytes: True)
    monkeypatch.setattr(Convert, "busy_alone", False)
    split, whole = in_parts_and_whole(convert, source, "b.ome.zarr", tmp_path, levels=2)
    assert_same_recording(split, whole)
    assert bool(counted) is SPLIT_PLANS[plan.name], len(counted)
