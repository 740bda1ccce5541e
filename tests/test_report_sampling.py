"""Recordings of any length: what is plotted, read and kept stays small, and no outlier is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mda_writers import BigTiffWriter
from mda_writers.dataset.recording_source import RecordingSource
from mda_writers.recording import journal_writer
from mda_writers.recording.files import journal_path
from mda_writers.recording.journal import MOST_SAMPLES, Journal
from mda_writers.recording.journal_writer import JournalWriter
from mda_writers.report.facts import MOST_ENTRIES, drift_of, gather, read_columns, timing_of
from mda_writers.report.page import page, recording_part
from mda_writers.report.pixels import binned, histogram_for, look_at, quantile
from mda_writers.report.svg import COLUMNS, Axis, extremes, thinned, time_axis

if TYPE_CHECKING:
    from pathlib import Path


def frame(number: int, time_s: float, focus: float | None = None, **index: int) -> tuple[str, Any]:
    ours = {"number": number, "index": index, "monotonic_s": time_s}
    return "p0", {"mda_writers": ours} | ({} if focus is None else {"position": {"z": focus}})


def test_an_interval_is_compared_with_others_of_its_kind() -> None:
    """Stacks of five planes 10 ms apart, a second between them: only the late plane is a gap."""
    frames, now = [], 0.0
    for n in range(100):
        now += 1.0 if n % 5 == 0 else 0.01
        now += 0.05 * (n == 42)
        frames.append(frame(n, now, t=n // 5, z=n % 5))
    timing = timing_of(read_columns(frames))
    assert [int(n) + 1 for n in timing.gaps] == [42]
    assert timing.usual_ms[41] == pytest.approx(10)


def test_frames_are_told_in_order_of_arrival_whatever_their_order_in_the_sidecar() -> None:
    frames = [frame(n, 0.1 * n, p=n % 2) for n in range(10)]
    columns = read_columns(frames[::2] + frames[1::2])
    assert columns.number.tolist() == list(range(10))
    assert timing_of(columns).interval_ms == pytest.approx(np.full(9, 100.0))


def test_drift_is_the_change_since_the_same_place_was_visited_first() -> None:
    planes = (0.0, 5.0)
    frames = [
        frame(2 * t + z, t + 0.1 * z, focus=planes[z] + 0.5 * t, t=t, z=z)
        for t in range(4)
        for z in range(2)
    ]
    drift = drift_of(read_columns(frames))
    assert drift.axes == [2]
    assert drift.change_um[:, 2].tolist() == [0, 0, 0.5, 0.5, 1, 1, 1.5, 1.5]
    assert drift.largest_um(2) == 1.5


def test_frames_without_a_position_leave_the_drift_of_the_others_alone() -> None:
    frames = [frame(n, n, focus=None if n in (0, 3) else 10.0 + n, t=n) for n in range(6)]
    drift = drift_of(read_columns(frames))
    assert drift.asked == 4
    assert np.nan_to_num(drift.change_um[:, 2], nan=-1).tolist() == [-1, 0, 1, -1, 3, 4]


def test_the_whole_metadata_of_few_frames_is_kept_evenly() -> None:
    columns = read_columns(frame(n, n, t=n) for n in range(10_000))
    numbers = [entry["mda_writers"]["number"] for entry in columns.entries]
    assert MOST_ENTRIES / 2 <= len(numbers) <= MOST_ENTRIES
    assert len(set(np.diff(numbers))) == 1


def test_a_plot_of_a_million_points_shows_every_outlier() -> None:
    x = np.linspace(0, 100, 1_000_000)
    y = np.ones_like(x)
    y[123_456], y[999_999] = 50, -50
    columns, low, high = extremes(x, y)
    assert len(columns) <= COLUMNS
    assert (high.max(), low.min()) == (50, -50)
    assert thinned(x, y, "dots", "s0").kind == "range"


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(0, 10), ["0", "5", "10"]),
        (Axis(0.5, 2_000_000, log=True), ["1", "100", "10k", "1M"]),
        (Axis(-1, 1), ["-1", "-0.5", "0", "0.5", "1"]),
        (Axis(3, 7, log=True), ["3", "7"]),
        (Axis(0, 65_535), ["0", "20k", "40k", "60k"]),
        (Axis(71.2201, 71.2249), ["71.222", "71.224"]),
        (Axis(10_000, 10_004), ["10000", "10001", "10002", "10003", "10004"]),
        (Axis(3e5, 9e7), ["20M", "40M", "60M", "80M"]),
    ],
)
def test_ticks_are_round_numbers(axis: Axis, expected: list[str]) -> None:
    assert [label for _, label in axis.ticks()] == expected


@pytest.mark.parametrize(
    ("seconds", "unit"), [(0.0, "ms"), (0.5, "ms"), (90, "s"), (600, "min"), (90_000, "h")]
)
def test_times_have_the_unit_that_people_would_choose(seconds: float, unit: str) -> None:
    axis, size = time_axis(seconds)
    assert axis.unit == unit
    assert axis.high * size >= seconds


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_histograms_of_small_integers_count_every_pixel(dtype: str) -> None:
    info = np.iinfo(dtype)
    pixels = np.random.default_rng(1).integers(info.min, info.max, (70, 90), dtype, endpoint=True)
    histogram = histogram_for(dtype, None)
    histogram.add(pixels)
    values, counts = histogram.values()
    expected = np.unique(pixels, return_counts=True)
    assert np.array_equal(values, expected[0]) and np.array_equal(counts, expected[1])
    assert histogram.saturated == (pixels == info.max).sum()
    assert quantile(values, counts, 0.5) == np.quantile(pixels, 0.5, method="inverted_cdf")
    assert binned(values, counts, 128)[1].sum() == pixels.size


def test_a_bit_depth_that_the_pixels_contradict_is_not_believed() -> None:
    histogram = histogram_for("uint16", 12)
    histogram.add(np.array([[4095, 7]], np.uint16))
    assert (histogram.level, histogram.saturated) == (4095, 1)
    histogram.add(np.array([[4096, 7]], np.uint16))
    assert (histogram.level, histogram.saturated) == (65535, 0)


@pytest.fixture
def long_recording(tmp_path: Path) -> Path:
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff")
    writer.begin(32, 32, sizes={"p": 8, "t": 50})
    for n in range(400):
        writer.add_frame(np.full((32, 32), n % 50, np.uint8))
    writer.finish()
    return tmp_path / "exp.ome.tiff"


def test_a_bounded_part_of_the_pixels_is_read(long_recording: Path) -> None:
    source = RecordingSource(long_recording)
    look = look_at(source, most_rows=4, most_bytes=4 * 10 * 1024)
    source.close()
    assert (look.images, look.images_shown) == (8, 4)
    assert [one.image.key for one in look.looks][::3] == ["p0", "p7"]
    for one in look.looks:
        assert (one.frames, one.problem) == (50, "")
        assert 10 <= one.looked_at <= 11
        assert [what for what, _, _ in one.views] == ["First frame", "Middle frame", "Last frame"]
        assert [int(pixels[0, 0]) for _, _, pixels in one.views] == [0, 25, 49]


def test_a_page_says_what_it_has_not_looked_at(long_recording: Path) -> None:
    text = page("x", recording_part(gather(long_recording, share=1_000_000)))
    assert "Maximum of 4 of 50 frames" in text
    assert "1 of 8 images are shown" in text


def journal_of(path: Path, times: list[float], monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Let frames come at `times`, and return the journal that tells of the load meanwhile."""
    journal = JournalWriter(path / "exp.tif")
    journal.begin({"layout": {}})
    journal.bytes_written = 7
    clock = iter(times)
    monkeypatch.setattr(journal_writer, "perf_counter", lambda: next(clock))
    for _ in times:
        journal.note_load(queued_bytes=5)
    journal.close()
    journal.unlock()
    return Journal.read(journal_path(path / "exp.tif"))


def test_the_load_of_a_day_takes_as_little_as_that_of_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = np.arange(0, 86_400, 1.0).tolist()
    load = journal_of(tmp_path, times, monkeypatch).load
    seconds = [sample["monotonic_s"] for sample in load]
    assert MOST_SAMPLES / 2 - 1 <= len(load) <= MOST_SAMPLES
    assert seconds[0] == 0 and seconds[-1] > 86_000
    assert max(np.diff(seconds)) <= 4 * np.median(np.diff(seconds))
    assert (tmp_path / "exp.tif_frames.jsonl").stat().st_size < 1_000_000
    assert {(s["queued_bytes"], s["written_bytes"]) for s in load} == {(5, 7)}
