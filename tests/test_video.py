"""CV2Writer: what it is asked for is what another library reads from the file."""

from __future__ import annotations

import logging
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import orjson
import pytest
import useq

from contracts.video_kinds import decode_all
from engine import StampedEngine
from mda_writers import (
    BigTiffWriter,
    CV2Writer,
    WriteError,
    open_dataset,
    record,
    recover,
    verify,
    video_codecs,
)
from mda_writers.batch.inputs import files_of
from mda_writers.errors import CorruptRecordingError, FrameError
from mda_writers.formats.video import probe
from mda_writers.formats.video import reader as video_finish
from mda_writers.formats.video.codecs import CODECS
from mda_writers.formats.video.reader import VideoReader
from mda_writers.formats.video.video_file import OPEN_ENCODERS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("no_thread_left")

CONTAINERS = (".mp4", ".mkv", ".avi")
LOSSY = 6
"""How far a flat grey may be off after a lossy codec, in counts of 255."""


def ramp(t: int, shape: tuple[int, ...] = (48, 64), dtype: str = "uint8") -> np.ndarray:
    """Return a frame that says which one it is by its brightness."""
    rows = np.linspace(0, 40, shape[0])
    frame = np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape) + 5 * t
    return np.ascontiguousarray(frame.astype(dtype))


def recorded(path: Path, frames: list[np.ndarray], times: Any = (), **options: Any) -> Any:
    """Record frames in direct mode and return the report."""
    writer = CV2Writer(path, **options)
    writer.begin(frames[0].shape[1], frames[0].shape[0], frames[0].ndim == 3)
    for number, frame in enumerate(frames):
        writer.add_frame(frame, timestamp_s=times[number] if len(times) else None)
    return writer.finish()


def video_entry(path: Path) -> dict[str, Any]:
    """Return what the recording's file says about its (only) video."""
    content = orjson.loads(path.with_name(path.name + "_recording.json").read_bytes())
    (entry,) = content["videos"]
    return entry


# ---------------------------------------------------------------- codecs


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("fourcc", CODECS)
def test_what_codecs_lists_is_what_can_be_written_and_read(
    fourcc: str, suffix: str, tmp_path: Path
) -> None:
    if fourcc not in video_codecs()[suffix]:
        assert (fourcc, suffix) == ("HEVC", ".avi")
        return
    path = tmp_path / f"film{suffix}"
    frames = [ramp(t) for t in range(35)]  # more than one group of pictures
    assert recorded(path, frames, fourcc=fourcc).complete
    seen = decode_all(path)
    assert len(seen) == 35
    for frame, picture in zip(frames, seen, strict=True):
        luma = picture[:48].astype(float)  # below it lies the chroma
        if not CODECS[fourcc].lossless and fourcc != "MJPG":
            luma = (luma - 16) * 255 / 219  # as television has it: 16 is black
        assert np.abs(luma - frame).max() <= (0 if CODECS[fourcc].lossless else LOSSY)
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 35
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(30, rel=1e-3)
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)
    video.release()


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return kind and content of every box in an MP4, or in another box."""
    while data:
        size = int.from_bytes(data[:4], "big")
        yield data[4:8], data[8:size]
        data = data[size:]


def inner(data: bytes, *kinds: bytes) -> bytes:
    """Return the content of a box in a box in a box."""
    for kind in kinds:
        data = dict(boxes(data))[kind]
    return data


@pytest.mark.parametrize("size", [(48, 64), (47, 63)], ids=["even", "odd"])
def test_default_has_the_structure_that_quicktime_and_browsers_want(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    recorded(path, [ramp(0, size)] * 40)
    with av.open(str(path), "r") as file:
        context = file.streams.video[0].codec_context
        assert (context.name, context.codec_tag, context.pix_fmt) == ("h264", "avc1", "yuv420p")
        assert context.profile in ("Constrained Baseline", "Baseline", "Main", "High")
        assert (context.height % 2, context.width % 2) == (0, 0)
    top = list(boxes(path.read_bytes()))
    kinds = [kind for kind, _ in top]
    # the index comes first, and nothing is left of the fragments
    assert kinds[0] == b"ftyp" and kinds.index(b"moov") < kinds.index(b"mdat")
    assert not {b"moof", b"mfra", b"sidx"} & set(kinds)
    brands = dict(top)[b"ftyp"]
    assert brands[:4] == b"isom"
    assert {b"avc1", b"mp41"} <= {brands[n : n + 4] for n in range(8, len(brands), 4)}
    movie = dict(top)[b"moov"]
    assert b"mvex" not in dict(boxes(movie))
    table = inner(movie, b"trak", b"mdia", b"minf", b"stbl")
    ((kind, entry),) = boxes(inner(table, b"stsd")[8:])
    assert kind == b"avc1"
    assert {b"avcC", b"colr"} <= {name for name, _ in boxes(entry[78:])}
    assert int.from_bytes(inner(table, b"stsz")[8:12], "big") == 40
    # frames that can be sought to at once
    assert int.from_bytes(inner(table, b"stss")[4:8], "big") == 2


@pytest.mark.parametrize("name", ["h264", "avc1", "X264"])
def test_codecs_have_other_names(name: str, tmp_path: Path) -> None:
    recorded(tmp_path / "film.mp4", [ramp(0)], fourcc=name)
    entry = video_entry(tmp_path / "film.mp4")
    assert (entry["asked"], entry["fourcc"]) == (name, "H264")


def test_replaced_codec_is_said_and_on_record(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"HEVC .* \.avi .*: H264 is used instead"):
        recorded(tmp_path / "film.avi", [ramp(0), ramp(1)], fourcc="HEVC")
    entry = video_entry(tmp_path / "film.avi")
    assert (entry["asked"], entry["fourcc"]) == ("HEVC", "H264")
    with pytest.warns(UserWarning, match="ABCD .*: H264 is used instead"):
        CV2Writer(tmp_path / "other.mp4", fourcc="ABCD")


def test_nothing_stands_in_for_lossless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "can_encode", lambda name, suffix: name != "FFV1")
    with pytest.raises(ValueError, match=r"FFV1 cannot be encoded .* What works here: H264"):
        CV2Writer(tmp_path / "film.mkv", fourcc="FFV1")


def test_codec_that_breaks_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such encoder")

    probe.can_encode.cache_clear()
    monkeypatch.setattr(probe, "Encoder", broken)
    assert video_codecs(".mp4") == {".mp4": []}
    probe.can_encode.cache_clear()


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("shape", [(47, 63), (47, 63, 3), (16, 16), (1, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_ffv1_keeps_every_bit(
    dtype: str, shape: tuple[int, ...], suffix: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    frames = [random.integers(0, np.iinfo(dtype).max, shape).astype(dtype) for _ in range(5)]
    path = tmp_path / f"film{suffix}"
    recorded(path, frames, fourcc="FFV1")
    # colours are given as OpenCV has them, and read as everybody else does
    np.testing.assert_array_equal(
        decode_all(path), [f[..., ::-1] if f.ndim == 3 else f for f in frames]
    )
    assert video_entry(path)["lossless"]
    assert verify(path, progress=False).ok


def test_odd_sizes_are_padded_never_cropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "film.mp4"
    frame = np.full((47, 63), 50, np.uint8)
    frame[-1], frame[:, -1] = 200, 200
    with caplog.at_level(logging.WARNING):
        recorded(path, [frame] * 3)
    assert "padded from (47, 63) to (48, 64)" in caplog.text
    assert (video_entry(path)["shape"], video_entry(path)["padded"]) == ([47, 63], [48, 64])
    with av.open(str(path), "r") as file:
        (picture, *_) = [f.to_ndarray(format="gray") for f in file.decode(video=0)]
    assert picture.shape == (48, 64)
    assert (np.abs(picture[46:48, 10:50].astype(int) - 200) < 40).all()
    with VideoReader(path) as reader:
        assert reader.read(0).shape == (47, 63)


RED = np.zeros((32, 48, 3), np.uint8)
RED[..., 0], RED[:16, :, 1] = 220, 30


@pytest.mark.parametrize(
    ("fourcc", "suffix"), [("H264", ".mp4"), ("MJPG", ".avi"), ("FFV1", ".mkv"), ("VP90", ".mkv")]
)
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_red_is_red(order: str, fourcc: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    given = RED if order == "RGB" else np.ascontiguousarray(RED[..., ::-1])
    recorded(path, [given] * 3, fourcc=fourcc, color_order=order)
    with av.open(str(path), "r") as file:
        seen = next(iter(file.decode(video=0))).to_ndarray(format="rgb24")
    assert np.abs(seen.astype(int) - RED).max() <= 8
    ok, bgr = cv2.VideoCapture(str(path)).read()
    assert ok
    assert np.abs(bgr[..., ::-1].astype(int) - RED).max() <= 25  # OpenCV takes all for BT.601
    with VideoReader(path) as reader:
        assert np.abs(reader.read(0).astype(int) - RED).max() <= 8
        assert np.abs(reader.read(0, original=True).astype(int) - given).max() <= 8


def test_grey_frame_in_a_colour_video_is_refused_and_the_reverse(tmp_path: Path) -> None:
    writer = CV2Writer(tmp_path / "film.mp4")
    writer.begin(64, 48, is_color=True)
    writer.add_frame(np.zeros((48, 64, 3), np.uint8))
    for wrong in (ramp(0), np.zeros((48, 60, 3), np.uint8), np.zeros((48, 64, 3), np.uint16)):
        with pytest.raises(FrameError, match=r"\(48, 64, 3\)"):
            writer.add_frame(wrong)
    assert writer.finish().frames_written == 1
    writer.begin(64, 48, is_color=False)
    with pytest.raises(FrameError, match=r"holds \(48, 64\)|begun for \(48, 64\)"):
        writer.add_frame(np.zeros((48, 64, 3), np.uint8))
    writer.add_frame(ramp(0))
    assert writer.finish().frames_written == 1


def test_brightness_over_time_is_kept(tmp_path: Path) -> None:
    """One mapping for the whole video: a frame twice as bright looks twice as bright."""
    path = tmp_path / "film.mp4"
    frames = [np.full((32, 32), 100 * t, np.uint16) for t in range(1, 21)]
    recorded(path, frames, contrast_limits=(0, 2550))
    with VideoReader(path) as reader:
        means = [reader.read(n).mean() for n in range(20)]
        back = [reader.read(n, original=True).mean() for n in range(20)]
    np.testing.assert_allclose(means, [10 * t for t in range(1, 21)], atol=2)
    np.testing.assert_allclose(back, [100 * t for t in range(1, 21)], atol=25)


@pytest.mark.parametrize("limits", [None, "full", "auto", (100, 900)])
def test_mapping_on_record_inverts_to_within_one_step(limits: Any, tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    frames = [np.full((32, 32), 100 + 30 * t, np.uint16) for t in range(20)]
    # lossless behind the mapping, so that nothing but the mapping can be off
    options = {"contrast_limits": limits or "full", "fourcc": "FFV1"}
    recorded(path, frames, **options)
    entry = video_entry(path)["contrast"]
    low, step = entry["low"], entry["step"]
    for frame, seen in zip(frames, decode_all(path), strict=True):
        assert seen.dtype == np.uint8
        expected = np.clip(frame, low, entry["high"])
        assert np.abs(low + seen * step - expected).max() <= step


def test_auto_limits_come_from_the_first_frames_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    frames = [np.linspace(100, 1000, 1024).reshape(32, 32).astype(np.uint16)] * 8
    later = [np.full((32, 32), 5000, np.uint16)] * 5
    assert recorded(path, frames + later, contrast_limits="auto").complete
    entry = video_entry(path)["contrast"]
    assert (entry["low"], entry["high"]) == pytest.approx((100, 1000), abs=2)
    with VideoReader(path) as reader:
        assert len(reader) == 13
        assert reader.read(12).min() >= 250


def test_auto_limits_are_each_videos_own_and_are_on_record(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    writer = CV2Writer(path, contrast_limits="auto")
    writer.begin(32, 32, sizes={"t": 40, "c": 2}, channels=["dim", "bright"])
    dim = np.linspace(100, 200, 1024).reshape(32, 32).astype(np.uint16)
    for _ in range(40):
        for brightness in (1, 30):
            writer.add_frame(dim * np.uint16(brightness))
    writer.finish()
    content = orjson.loads((tmp_path / "film.mp4_recording.json").read_bytes())
    limits = {entry["channel"]: entry["contrast"] for entry in content["videos"]}
    for channel, brightness in (("dim", 1), ("bright", 30)):
        found = limits[channel]["low"], limits[channel]["high"]
        assert found == pytest.approx((100 * brightness, 200 * brightness), rel=0.01)
        with VideoReader(tmp_path / f"film_{channel}.mp4") as reader:
            assert reader.about["contrast"] == limits[channel]  # the file says the same
            for t in (0, 20, 39):
                back = reader.read(t, original=True).astype(float) / brightness
                assert np.abs(back - dim).mean() < 2
    with open_dataset(path) as dataset:
        bright, faint = (dataset.read_image(t=39, c=name).mean() for name in ("bright", "dim"))
    assert bright / faint == pytest.approx(30, rel=0.03)  # whatever the videos look like


def test_frames_that_wait_for_auto_limits_are_not_yet_on_record(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    writer = CV2Writer(path, contrast_limits="auto")
    writer.begin(32, 32)
    for t in range(3):
        writer.add_frame(ramp(t, (32, 32), "uint16"))
    assert writer.frames_written == 0  # a kill would lose them: nobody says they are there
    writer.isel(t=0)
    assert writer.frames_written == 3  # after half a second, three have to do
    assert path.exists()
    assert writer.finish().complete


def test_a_12_bit_camera_fills_the_range(core: Any, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, bit_depth=12))
    writer = CV2Writer(tmp_path / "film.mp4")
    record(core, useq.MDASequence(time_plan={"interval": 0, "loops": 3}), writer, progress=False)
    assert video_entry(tmp_path / "film.mp4")["contrast"]["high"] == 4095


def test_pixels_brighter_than_the_camera_says_are_told(
    tmp_path: Path, core: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Liar(StampedEngine):
        def _image(self, index: dict[str, int], cam: int) -> Any:
            return np.full((32, 32), 60_000, np.uint16)

    core.mda.set_engine(Liar(core, bit_depth=12))
    writer = CV2Writer(tmp_path / "film.mp4")
    with caplog.at_level(logging.WARNING):
        record(core, useq.MDASequence(time_plan={"interval": 0, "loops": 3}), writer)
    assert caplog.text.count("brighter than the camera's 12 bits") == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint32", "int32"])
def test_wide_pixels_are_shown_by_auto_limits(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    frames = [(np.linspace(-5, 1e6, 1024).reshape(32, 32) + t).astype(dtype) for t in range(9)]
    assert recorded(path, frames).complete
    with VideoReader(path) as reader:
        back = reader.read(8, original=True)
    assert back.dtype == dtype
    if dtype != "uint32":
        assert np.abs(back.astype(float) - frames[8].astype(float)).max() < 0.05 * 1e6


@pytest.mark.parametrize("scale", [0.5, 0.3, 1.0])
def test_scale_makes_smaller_videos(scale: float, tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    frames = [ramp(t, (100, 61)) for t in range(4)]
    recorded(path, frames, fourcc="FFV1", scale=scale)
    shape = (round(100 * scale), round(61 * scale))
    for frame, seen in zip(frames, decode_all(path), strict=True):
        assert seen.shape == shape
        assert abs(seen.mean() - frame.mean()) < 1.5
    assert video_entry(path)["lossless"] is (scale == 1)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int8", "int32", "float32"])
def test_scaled_pixels_are_the_means_of_those_given(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    pixels = np.random.default_rng(2).integers(0, 120, (40, 60)).astype(dtype)
    limits = (0, 127)
    recorded(path, [pixels] * 2, fourcc="FFV1", scale=0.5, contrast_limits=limits)
    means = pixels.astype(float).reshape(20, 2, 30, 2).mean(axis=(1, 3))
    for seen in decode_all(path):
        # half a count where whole numbers are averaged, before or after they are mapped
        np.testing.assert_allclose(seen.astype(float) * limits[1] / 255, means, atol=1)


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("fps", [30, 29.97, 0.5, 100, 12.5])
def test_constant_rate_is_the_rate(fps: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    recorded(path, [ramp(t) for t in range(12)], fps=fps, fourcc="MJPG")
    with av.open(str(path), "r") as file:
        times = [frame.time for frame in file.decode(video=0)]
        rate = float(file.streams.video[0].average_rate or 0)
    resolution_s = 0.0011 if suffix == ".mkv" else 1e-4
    np.testing.assert_allclose(times, np.arange(12) / fps, atol=resolution_s)
    assert rate == pytest.approx(fps, rel=0.01)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_real_times_are_the_presentation_times(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    times = [1000.0, 1000.5, 1000.501, 1003.25, 1060, 1060, 1060.2]  # two at one moment
    recorded(path, [ramp(t) for t in range(7)], times, timing="real")
    with av.open(str(path), "r") as file:
        seen = [frame.time or 0.0 for frame in file.decode(video=0)]
    np.testing.assert_allclose(seen, np.array(times) - 1000, atol=0.0011)
    assert all(later > before for before, later in pairwise(seen))
    sidecar = orjson.loads(path.with_name(path.name + "_frame_metadata.json").read_bytes())
    (frames,) = sidecar.values()
    assert [frame["timestamp_s"] for frame in frames] == times
    assert all(frame["mda_writers"]["unix_time_s"] > 1.7e9 for frame in frames)


def test_real_times_of_an_acquisition_are_those_of_the_runner(core: Any, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    sequence = useq.MDASequence(time_plan={"interval": 0.05, "loops": 6})
    record(core, sequence, CV2Writer(tmp_path / "film.mp4", timing="real"), progress=False)
    sidecar = orjson.loads((tmp_path / "film.mp4_frame_metadata.json").read_bytes())
    (frames,) = sidecar.values()
    taken = np.array([frame["runner_time_ms"] for frame in frames]) / 1000
    with av.open(str(tmp_path / "film.mp4"), "r") as file:
        seen = [frame.time for frame in file.decode(video=0)]
    np.testing.assert_allclose(seen, taken - taken[0], atol=0.001)


# ---------------------------------------------------------------- several videos


def test_files_are_named_by_position_channel_and_camera(core: Any, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, cameras=2))
    sequence = useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": 2},
        stage_positions=[useq.Position(name="left"), useq.Position(name="A/1")],
        channels=["DAPI", "FITC"],
    )
    (report,) = record(core, sequence, CV2Writer(tmp_path / "exp.mp4"), progress=False)
    names = {path.name for path in tmp_path.glob("*.mp4")}
    assert names == {
        f"exp_{position}_{channel}-Camera-{camera}.mp4"
        for position in ("left", "A-1")
        for channel in ("DAPI", "FITC")
        for camera in (1, 2)
    }
    assert names < {Path(path).name for path in report.paths}
    # any of them leads to the recording, and all of them go when it is replaced
    assert verify(tmp_path / "exp_left_DAPI-Camera-1.mp4", progress=False).ok
    again = CV2Writer(tmp_path / "exp.mp4", overwrite=True)
    again.begin(8, 8, False, dtype="uint8")
    assert not list(tmp_path.glob("*.mp4"))
    again.finish()


def test_an_interrupted_recording_is_found_by_any_of_its_videos(tmp_path: Path) -> None:
    writer = CV2Writer(tmp_path / "live" / "exp.mp4")
    writer.begin(32, 32, sizes={"t": 5, "c": 2}, channels=["DAPI", "FITC"])
    for n in range(6):
        writer.add_frame(np.full((32, 32), 20 * n, np.uint8))
    writer.isel(t=0)  # returns when all of them are in their files
    with open_dataset(tmp_path / "live" / "exp_FITC.mp4") as live:
        assert (live.path.name, live.complete) == ("exp.mp4", False)
        assert live.channels == ["DAPI", "FITC"]
    torn = shutil.copytree(tmp_path / "live", tmp_path / "torn")
    writer.finish()
    with open_dataset(torn / "exp_DAPI.mp4") as dataset:
        assert abs(dataset.read_image(t=2, c="FITC").mean() - 100) < 3
    assert verify(torn / "exp_FITC.mp4", progress=False).intact
    assert {path.name for path in files_of(torn / "exp_FITC.mp4")} == {
        path.name for path in torn.iterdir()
    }
    assert recover(torn / "exp_FITC.mp4").frames_written == 6
    with pytest.raises(FileNotFoundError, match="no recording"):
        recover(torn / "exp_Cy5.mp4")


def test_names_that_meet_are_kept_apart(tmp_path: Path) -> None:
    writer = CV2Writer(tmp_path / "exp.mkv", fourcc="FFV1")
    writer.begin(16, 16, sizes={"c": 3}, channels=["a", "A", "a"])
    frames = [ramp(t, (16, 16)) for t in range(3)]
    for frame in frames:
        writer.add_frame(frame)
    writer.finish()
    found = sorted(int(decode_all(path)[0][0, 0]) for path in tmp_path.glob("*.mkv"))
    assert found == [0, 5, 10]


def test_more_videos_than_encoders_go_on_where_they_were(tmp_path: Path) -> None:
    positions = OPEN_ENCODERS + 4
    writer = CV2Writer(tmp_path / "exp.mp4")
    writer.begin(32, 32, sizes={"t": 4, "p": positions})
    for t in range(4):
        for p in range(positions):
            writer.add_frame(np.full((32, 32), 20 + 40 * t + p, np.uint8))
    assert writer.finish().complete
    for p in range(positions):
        with av.open(str(tmp_path / f"exp_p{p}.mp4"), "r") as file:
            means = [f.to_ndarray(format="gray").mean() for f in file.decode(video=0)]
        np.testing.assert_allclose(means, [20 + 40 * t + p for t in range(4)], atol=3)


def test_preview_beside_a_tiff(core: Any, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core, frame_shape=(64, 96)))
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 10}, channels=["DAPI", "FITC"], axis_order="tc"
    )
    writers = [
        BigTiffWriter(tmp_path / "exp.ome.tiff"),
        CV2Writer(tmp_path / "exp.mp4", decimate=4, scale=0.5),
    ]
    whole, preview = record(core, sequence, writers, progress=False)
    assert whole.complete and whole.frames_written == 20
    assert (preview.frames_received, preview.frames_written, preview.not_saved) == (20, 6, 14)
    assert preview.frames_missing == 0
    for channel in ("DAPI", "FITC"):
        with VideoReader(tmp_path / f"exp_{channel}.mp4") as reader:
            assert (len(reader), reader.shape) == (3, (32, 48))
    sidecar = orjson.loads((tmp_path / "exp.mp4_frame_metadata.json").read_bytes())
    (frames,) = sidecar.values()
    kept = [f["mda_writers"]["index"]["t"] for f in frames if f["mda_writers"].get("saved", True)]
    assert kept == [0, 0, 4, 4, 8, 8]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("fourcc", ["H264", "MJPG"])
def test_frames_are_read_by_number_in_any_order(fourcc: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    # noise moves, so that not every frame is a key frame
    noise = np.random.default_rng(5).integers(0, 20, (32, 32), np.uint8)
    frames = [np.roll(noise, t, 1) + np.uint8(2 * t) for t in range(100)]
    recorded(path, frames, fourcc=fourcc)
    order = np.random.default_rng(0).permutation(100)
    with VideoReader(path) as reader:
        assert len(reader) == 100
        for n in [*order, -1, 0, 99, 0, 50, 51, 52]:
            assert np.abs(reader[int(n)].astype(int) - frames[n]).mean() < 3.5
        with pytest.raises(IndexError, match="100 frames, none of number 100"):
            reader.read(100)


def test_a_recording_is_read_while_it_is_written(tmp_path: Path) -> None:
    writer = CV2Writer(tmp_path / "film.mp4")
    writer.begin(32, 32, sizes={"t": 60, "c": 2})
    for n in range(40):
        writer.add_frame(np.full((32, 32), 5 * n, np.uint8))
    pixels = writer.isel(c=1)
    assert pixels.shape == (60, 32, 32)
    means = [5 * n for n in range(1, 40, 2)] + [0] * 40
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), means, atol=3)
    assert abs(writer.isel(t=3, c=0, y=slice(4), x=2).mean() - 30) < 3
    with VideoReader(tmp_path / "film_c0.mp4") as reader:
        assert len(reader) == 20
    writer.finish()
    np.testing.assert_allclose(writer.isel(c=1)[:20].mean(axis=(1, 2)), means[:20], atol=3)


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"nothing")
    with pytest.raises(CorruptRecordingError, match="no video can be read"):
        VideoReader(tmp_path / "film.mp4")


# ---------------------------------------------------------------- the end, and errors


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("left", [0.05, 0.3, 0.9])
def test_file_with_fewer_frames_than_were_written_is_told(
    left: float, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"film{suffix}"
    writer = CV2Writer(path)
    writer.begin(64, 48)
    for t in range(20):
        writer.add_frame(ramp(t))
    writer.isel(t=0)
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * left))
    with pytest.raises(WriteError, match=r"frames can be read back, 20 were written"):
        writer.finish()
    assert path.exists()


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("fourcc", ["H264", "MJPG", "FFV1"])
def test_torn_last_piece_does_not_hide_the_others(fourcc: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    noise = np.random.default_rng(5).integers(0, 20, (48, 64), np.uint8)
    writer = CV2Writer(path, fourcc=fourcc)
    writer.begin(64, 48)
    for t in range(40):
        before = path.stat().st_size if path.exists() else 0
        writer.add_frame(np.roll(noise, t, 1) + np.uint8(5 * t))
        writer.isel(t=0)
    whole = path.read_bytes()
    writer.finish()
    last = len(whole) - before
    for cut in (1, 7, last // 2, last - 1, last):
        torn = tmp_path / f"torn{cut}{suffix}"
        torn.write_bytes(whole[:-cut])
        with VideoReader(torn) as reader:
            # AVI pads to even sizes: without its last byte a frame may still be whole
            assert len(reader) == 39 or (suffix, cut) == (".avi", 1)
            for n in (0, 20, 38):
                assert abs(reader.read(n).mean() - (noise.mean() + 5 * n)) < 3


def test_without_room_for_a_copy_the_video_stays_as_it_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video_finish, "_remux", full)
    path = tmp_path / "film.mp4"
    with caplog.at_level(logging.WARNING):
        assert recorded(path, [ramp(t) for t in range(5)]).complete
    assert "no room for a second copy" in caplog.text
    assert video_entry(path)["form"] == "fragments"
    assert len(decode_all(path)) == 5
    assert [p.name for p in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps is a rate"),
        ({"fps": -3}, "fps is a rate"),
        ({"fps": float("nan")}, "fps is a rate"),
        ({"fps": 1e6}, "fps is a rate"),
        ({"fps": "30"}, "fps is a rate"),
        ({"fourcc": "H"}, "four letters"),
        ({"fourcc": 42}, "four letters"),
        ({"contrast_limits": (5, 5)}, "low < high"),
        ({"contrast_limits": "best"}, "contrast_limits is"),
        ({"contrast_limits": 7}, "contrast_limits is"),
        ({"timing": "slow"}, "timing is one of"),
        ({"decimate": 0}, "decimate is"),
        ({"decimate": 1.5}, "decimate is"),
        ({"scale": 0}, "scale is"),
        ({"scale": 2}, "scale is"),
        ({"color_order": "GBR"}, "color_order is one of"),
        ({"decimate": 2, "save_frame": [True]}, "give one of them"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        CV2Writer(tmp_path / "film.mp4", **options)


def test_avi_has_no_real_times_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"use \.mkv or \.mp4"):
        CV2Writer(tmp_path / "film.avi", timing="real")


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"writes \.mp4, \.avi, \.mkv"):
        CV2Writer(tmp_path / "film.mov")


def test_frames_before_and_after_are_refused(tmp_path: Path) -> None:
    writer = CV2Writer(tmp_path / "film.mp4")
    for _ in range(2):
        with pytest.raises(WriteError, match=r"Call begin\(\) first"):
            writer.add_frame(ramp(0))
        if writer.frames_received == 0:
            writer.begin(64, 48)
            writer.add_frame(ramp(0))
            writer.finish()


def test_path_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    writer = CV2Writer(tmp_path / "file" / "film.mp4")
    with pytest.raises(WriteError, match=r"film\.mp4: could not be written .* permissions"):
        writer.begin(64, 48)


def test_pixels_that_no_video_can_show_are_refused_at_the_beginning(tmp_path: Path) -> None:
    writer = CV2Writer(tmp_path / "film.mkv", fourcc="FFV1")
    with pytest.raises(WriteError, match=r'lossless for up to 16 bits.*"auto"'):
        writer.begin(64, 48, False, dtype="float32", sizes={"t": 3})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WriteError, match="record them as TIFF"):
        CV2Writer(tmp_path / "film.mp4").begin(64, 48, False, dtype="complex64", sizes={"t": 3})
    with pytest.raises(WriteError, match="has no fixed range"):
        full = CV2Writer(tmp_path / "film.mp4", contrast_limits="full")
        full.begin(64, 48, False, dtype="float32", sizes={"t": 3})
