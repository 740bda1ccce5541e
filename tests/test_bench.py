"""The benchmark runs, and what it measures was really written. No test asserts a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import peers
from mda_writers.bench import (
    SCENARIOS,
    BenchOptions,
    BenchResult,
    Measurement,
    main_table,
    run_bench,
    save_plot,
)
from mda_writers.bench.camera import Camera, frame_metadata, make_pool
from mda_writers.bench.candidates import CANDIDATES, FILE, Job
from mda_writers.bench.command import parse_bytes, parse_shape
from mda_writers.bench.measure import is_intact, measure

peers.join()

SHAPE = (48, 65)  # odd on purpose: no frame fills whole blocks
N_FRAMES = 7
IN_PROCESS = [
    "bare",
    "bigtiff",
    "omezarr",
    "tifffile",
    "zarr-python",
    "pymmcore-tiff",
]
LEAKY = ["ndtiff", "ome-writers-tifffile", "ome-writers-zarr", "acquire", "tensorstore"]
"""Peers that leave a file or a thread behind, and so must not run in this process."""


def job(path: Path, n: int = N_FRAMES, budget_s: float = 60) -> Job:
    camera = Camera(make_pool(SHAPE), n, budget_s)
    return Job(path, camera, n, SHAPE, "uint16", frame_metadata)


def able(name: str) -> str:
    if reason := CANDIDATES[name].available():
        pytest.skip(reason)
    return name


@pytest.mark.parametrize("name", IN_PROCESS)
def test_candidate_writes_every_frame_where_it_belongs(name: str, tmp_path: Path) -> None:
    candidate, work = CANDIDATES[able(name)], job(tmp_path)
    try:
        measured = measure(candidate, work, "large", warm=False)
    except OSError as error:
        if name == "bare":
            pytest.skip(f"this file system refuses O_DIRECT: {error}")
        raise
    assert measured.n_frames == N_FRAMES
    assert measured.file_mb >= N_FRAMES * np.prod(SHAPE) * 2 / 1e6
    assert measured.handover_p99_ms is not None
    assert measured.finish_s is not None
    if name == "bare":
        frames = np.fromfile(tmp_path / FILE, np.uint16).reshape(-1, *SHAPE)
        assert all(np.array_equal(f, work.frames.frame(i)) for i, f in enumerate(frames))
        return
    assert measured.intact is True
    for i in range(N_FRAMES):
        np.testing.assert_array_equal(candidate.read(tmp_path, i), work.frames.frame(i))


def test_frame_in_the_wrong_place_is_not_intact(tmp_path: Path) -> None:
    work = job(tmp_path)
    measure(CANDIDATES["tifffile"], work, "large", warm=False)
    work.frames.pool.reverse()
    assert is_intact(CANDIDATES["tifffile"], work, N_FRAMES) is False


def test_missing_file_is_not_intact(tmp_path: Path) -> None:
    assert is_intact(CANDIDATES["tifffile"], job(tmp_path), N_FRAMES) is False


def test_camera_stops_when_its_budget_is_used_up(tmp_path: Path) -> None:
    measured = measure(CANDIDATES["tifffile"], job(tmp_path, budget_s=0), "large", warm=False)
    assert measured.n_planned == N_FRAMES
    assert measured.n_frames == 1
    assert measured.intact is True


def test_frames_are_neither_constant_nor_alike() -> None:
    pool = make_pool(SHAPE)
    assert all(frame.std() > 10 and frame.max() < 2**12 for frame in pool)
    assert len({frame.tobytes() for frame in pool}) == len(pool)


def test_fresh_processes_take_turns_and_leave_nothing_behind(tmp_path: Path) -> None:
    names = ("tifffile", "zarr-python")
    options = BenchOptions(
        out=tmp_path, runs=2, only=names, shape=SHAPE, n_bytes=50_000, warm_memory=False
    )
    result = run_bench(options)
    assert [one.candidate for one in result.measurements] == [*names, *names]
    assert [one.error for one in result.measurements] == [None] * 4
    assert all(one.intact for one in result.medians())
    assert list(tmp_path.iterdir()) == []
    assert {"cpu", "cores", "memory", "system", "disk", "python"} <= set(result.machine)


@pytest.mark.parametrize("name", LEAKY)
def test_peer_in_a_fresh_process_is_intact(name: str, tmp_path: Path) -> None:
    options = BenchOptions(out=tmp_path, runs=1, only=(able(name),), shape=SHAPE, n_bytes=50_000)
    measured = run_bench(options).measurements[0]
    assert measured.error is None
    assert measured.intact is True


@pytest.mark.parametrize("name", SCENARIOS["video"].candidates)
def test_video_in_a_fresh_process_is_intact(name: str, tmp_path: Path) -> None:
    options = BenchOptions(
        ("video",), tmp_path, runs=1, only=(able(name),), shape=(64, 96), n_bytes=20 * 64 * 96
    )
    (measured,) = run_bench(options).measurements
    assert (measured.error, measured.intact, measured.n_frames) == (None, True, 20)


def test_a_video_with_another_frame_there_is_not_intact(tmp_path: Path) -> None:
    camera = Camera(make_pool((64, 96), "uint8"), 8, 60)
    work = Job(tmp_path, camera, 8, (64, 96), "uint8", frame_metadata)
    candidate = CANDIDATES["pyav-h264"]
    candidate.run(work)
    assert is_intact(candidate, work, 8) is True
    work.frames.pool.reverse()
    assert is_intact(candidate, work, 8) is False


def test_failed_candidate_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    options = BenchOptions(out=tmp_path, runs=1, only=("tifffile",), timeout_s=0.01)
    measured = run_bench(options).measurements[0]
    assert measured.error is not None
    assert measured.mb_per_s == 0


@pytest.mark.parametrize("wrong", [{"scenarios": ("huge",)}, {"only": ("floppy",)}])
def test_unknown_name_is_answered_with_the_known_ones(wrong: dict, tmp_path: Path) -> None:
    known = "large" if "scenarios" in wrong else "tifffile"
    with pytest.raises(ValueError, match=known):
        run_bench(replace(BenchOptions(out=tmp_path), **wrong))


def test_every_scenario_names_candidates_that_exist() -> None:
    for scenario in SCENARIOS.values():
        assert set(scenario.candidates) <= set(CANDIDATES)


def result_of(*rates: tuple[str, float]) -> BenchResult:
    measured = [
        Measurement("large", name, (8, 8), 10, 10, 1.0, rate, 10.0, 0.1, 0.2, 0.3, 0.1, 0.1, 0.0)
        for name, rate in rates
    ]
    return BenchResult(machine={"cpu": "one"}, measurements=measured)


def test_ratios_are_of_medians() -> None:
    result = result_of(
        ("bare", 100),
        ("bigtiff", 90),
        ("bare", 200),
        ("bigtiff", 100),
        ("bare", 900),
        ("bigtiff", 500),
    )
    bare, ours = result.medians()
    assert (bare.mb_per_s, ours.mb_per_s) == (200, 100)
    assert result.ratio(ours, "bare") == 0.5
    assert result.ratio(ours, "ndtiff") is None


def test_one_damaged_run_damages_the_median() -> None:
    result = result_of(("tifffile", 1), ("tifffile", 1), ("tifffile", 1))
    result.measurements = [replace(one, intact=i != 1) for i, one in enumerate(result.measurements)]
    assert result.medians()[0].intact is False


def test_json_holds_everything_and_can_be_loaded(tmp_path: Path) -> None:
    result = result_of(("bare", 100), ("bigtiff", 90))
    result.save_json(tmp_path / "result.json")
    assert BenchResult.load_json(tmp_path / "result.json") == result
    assert len(json.loads((tmp_path / "result.json").read_text())["medians"]) == 2


def test_table_shows_every_candidate_and_its_ratio() -> None:
    result = result_of(("bare", 100), ("bigtiff", 90))
    result.measurements.append(Measurement("large", "ndtiff", (8, 8), 10, error="it broke"))
    result.unavailable["acquire"] = "no module"
    console = Console(width=200)
    with console.capture() as captured:
        console.print(main_table(result))
    text = captured.get()
    assert "0.90" in text
    for words in ("bare O_DIRECT loop", "BigTiffWriter", "NDTiff", "it broke", "no module"):
        assert words in text


def test_growth_is_shown_for_two_lengths_of_run() -> None:
    long = result_of(("tifffile", 1)).measurements[0]
    runs = [replace(long, scenario="memory", n_planned=n, peak_rss_mb=n) for n in (1000, 200_000)]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(main_table(BenchResult(machine={}, measurements=runs)))
    assert "growth from 1000 to 200000 frames" in captured.get()


def test_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    save_plot(result_of(("bare", 100), ("bigtiff", 90)), tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("2GiB", 2**31), ("500 MB", 500_000_000), ("12", 12), ("1.5kib", 1536)]
)
def test_bytes_are_read_with_their_unit(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["MB", "2 miles", "1x2"])
def test_bytes_without_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"There are|Write it as"):
        parse_bytes(text)


def test_shape_is_read() -> None:
    assert parse_shape("1200x1600") == (1200, 1600)
    with pytest.raises(ValueError, match="2048x2048"):
        parse_shape("big")
