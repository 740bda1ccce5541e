"""Every plan, as lossless video: each frame is in the video, and at the place, on record."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import av
import numpy as np
import orjson
import pytest

from mda_writers import CV2Writer, WriteError, record, verify
from plans import PLANS, REPEATING_PLANS, Plan, engine_for, expected_indices, expected_stamps
from stamps import check_stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

NOT_FOR_FFV1 = {"32_bit", "float_32", "float_64"}

# what a container does with frames does not depend on the plan
A_HANDFUL = {"order_tpcz", "two_cameras", "rgb", "float_32", "many_positions"}


def frames_by_sidecar(path: Path) -> list[tuple[dict[str, int], np.ndarray]]:
    """Return (index, pixels) of every frame that the sidecar names, decoded by FFmpeg."""
    sidecar = orjson.loads(path.with_name(path.name + "_frame_metadata.json").read_bytes())
    decoded: dict[str, list[np.ndarray]] = {}
    found = []
    for frames in sidecar.values():
        for frame in frames:
            ours = frame["mda_writers"]
            if ours["file"] not in decoded:
                decoded[ours["file"]] = decode_all(path.parent / ours["file"])
            found.append((ours["number"], ours["index"], decoded[ours["file"]][ours["frame"]]))
    return [(index, pixels) for _, index, pixels in sorted(found, key=lambda f: f[0])]


def decode_all(path: Path) -> list[np.ndarray]:
    formats = {"bgr0": "rgb24", "gbrp16le": "rgb48le"}
    with av.open(str(path)) as file:
        own = file.streams.video[0].pix_fmt
        return [frame.to_ndarray(format=formats.get(own, own)) for frame in file.decode(video=0)]


@pytest.mark.parametrize("plan", PLANS + REPEATING_PLANS, ids=str)
def test_every_frame_of_a_plan_is_where_its_event_says(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    writer = CV2Writer(tmp_path / "exp.mkv", fourcc="FFV1")
    if plan.name == "no_events" or plan.name in NOT_FOR_FFV1:
        with pytest.raises(WriteError, match=r"The sequence is empty|lossless for up to 16 bits"):
            record(core, plan.events(), [writer], progress=False)
        assert not list(tmp_path.iterdir())
        return
    expected = expected_indices(plan)
    (report,) = record(core, plan.events(), [writer], progress=False)
    assert report.frames_written == len(expected)
    if not expected:
        assert not list(tmp_path.glob("*.mkv"))
        return
    found = frames_by_sidecar(tmp_path / "exp.mkv")
    assert len(found) == len(expected)
    for (index, pixels), stamp, planned in zip(found, expected_stamps(plan), expected, strict=True):
        assert {k: v for k, v in index.items() if k != "repeat"} == planned
        check_stamp(as_given(pixels, plan.dtype), stamp)
    assert report.complete is (plan.skip is None), report
    assert verify(tmp_path / "exp.mkv", progress=False).intact


def as_given(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return the pixels that a video's values stand for: signed ones were moved up."""
    if np.dtype(dtype).kind != "i":
        return values
    return (values.astype(np.int64) + np.iinfo(dtype).min).astype(dtype)


@pytest.mark.parametrize("plan", [plan for plan in PLANS if plan.name in A_HANDFUL], ids=str)
def test_an_mp4_of_any_plan_has_all_frames_in_order(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    writer = CV2Writer(tmp_path / "exp.mp4")
    (report,) = record(core, plan.events(), [writer], progress=False)
    assert report.complete, report
    sidecar = orjson.loads((tmp_path / "exp.mp4_frame_metadata.json").read_bytes())
    by_file = defaultdict(list)
    for frames in sidecar.values():
        for frame in frames:
            by_file[frame["mda_writers"]["file"]].append(frame["mda_writers"])
    assert {p.name for p in tmp_path.glob("*.mp4")} == set(by_file)
    for file, frames in by_file.items():
        assert [f["frame"] for f in frames] == list(range(len(frames)))
        assert [f["number"] for f in frames] == sorted(f["number"] for f in frames)
        with av.open(str(tmp_path / file)) as video:
            decoded = list(video.decode(video=0))
        assert len(decoded) == len(frames)
        assert (decoded[0].height, decoded[0].width) == plan.frame_shape[:2]
