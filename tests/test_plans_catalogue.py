"""The tools that other tests stand on: plans, engine, stamps and hardware configurations."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymmcore_plus import CMMCorePlus, FocusDirection
from pymmcore_plus.mda import FinishReason, MDAEngine
from useq import MDAEvent, MDASequence

from conftest import MM_CONFIGS, let_go
from engine import EngineError, StampedEngine, takes_frames
from plans import PLANS, REPEATING_PLANS, Plan, engine_for, expected_indices, expected_stamps
from stamps import AXES, check_stamp, read_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("no_thread_left")

BY_NAME = {plan.name: plan for plan in PLANS}
TEN_FRAMES = MDASequence(time_plan={"interval": 0, "loops": 10})


class Collector:
    """Keeps all that a run hands out; connected directly, so it sees what the engine gave."""

    def __init__(self, core: CMMCorePlus) -> None:
        self.summary: dict[str, Any] = {}
        self.images: list[NDArray[Any]] = []
        self.events: list[MDAEvent] = []
        self.metadata: list[dict[str, Any]] = []
        core.mda.events.sequenceStarted.connect(self.sequenceStarted)
        core.mda.events.frameReady.connect(self.frameReady)

    def sequenceStarted(self, sequence: MDASequence, summary: dict[str, Any]) -> None:
        self.summary = summary

    def frameReady(self, image: NDArray[Any], event: MDAEvent, meta: dict[str, Any]) -> None:
        self.images.append(image)
        self.events.append(event)
        self.metadata.append(meta)

    @property
    def indices(self) -> list[dict[str, int]]:
        return [dict(event.index) for event in self.events]


def run(core: CMMCorePlus, engine: MDAEngine | None, events: Any) -> Collector:
    """Run *events* and wait; what the engine raises is raised here."""
    if engine is not None:
        core.mda.set_engine(engine)
    collector = Collector(core)
    core.mda.run(events)
    return collector


# ------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("plan", PLANS + REPEATING_PLANS, ids=str)
def test_every_plan_gives_exactly_the_frames_it_promises(core: CMMCorePlus, plan: Plan) -> None:
    got = run(core, engine_for(plan, core), plan.events())

    assert got.indices == expected_indices(plan)
    for image, index in zip(got.images, expected_stamps(plan), strict=True):
        check_stamp(image, index)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_no_plan_takes_two_frames_at_one_index(plan: Plan) -> None:
    assert max(times_taken(plan), default=1) == 1


@pytest.mark.parametrize("plan", REPEATING_PLANS, ids=str)
def test_repeating_plans_do_repeat(plan: Plan) -> None:
    assert max(times_taken(plan)) > 1
    assert len(set(map(repr, expected_stamps(plan)))) == len(expected_stamps(plan))


def times_taken(plan: Plan) -> list[int]:
    """Return how many frames there are at each index; those without any are told apart by n."""
    taken = expected_stamps(plan) if not plan.numbered else expected_indices(plan)
    return list(Counter(tuple(sorted(index.items())) for index in taken).values())


def test_every_plan_is_small_and_has_a_name_of_its_own() -> None:
    assert max(len(expected_indices(plan)) for plan in PLANS) <= 150
    assert len(BY_NAME) == len(PLANS)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_the_summary_announces_the_frames_that_come(core: CMMCorePlus, plan: Plan) -> None:
    got = run(core, engine_for(plan, core), plan.events())

    selected, *behind = got.summary["image_infos"]
    cameras = selected.get("num_camera_adapter_channels", 1)
    infos = behind if cameras > 1 else [selected]
    assert len(infos) == cameras
    for image, meta, event in zip(got.images, got.metadata, got.events, strict=True):
        info = infos[event.index.get("cam", 0)]
        assert (image.shape, image.dtype.name) == (info["plane_shape"], info["dtype"])
        assert image.shape[:2] == (info["height"], info["width"])
        assert meta["camera_device"] == info["camera_label"]


def test_autofocus_plans_do_focus() -> None:
    for name in ("autofocus_at_each_position", "autofocus_at_one_position_and_each_plane"):
        events = list(BY_NAME[name].events())
        assert 0 < sum(not takes_frames(event) for event in events) < len(events)


def test_shutter_plan_does_keep_the_shutter_open() -> None:
    events = list(BY_NAME["shutter_open_across_z"].events())
    assert sum(event.keep_shutter_open for event in events) == len(events) * 2 // 3


# ------------------------------------------------------------------------------------ engine


def test_frames_carry_the_real_metadata(core: CMMCorePlus) -> None:
    got = run(core, StampedEngine(core), TEN_FRAMES)

    first = got.metadata[0]
    assert (first["format"], first["version"]) == ("frame-dict", "1.0")
    assert first["pixel_size_um"] == 0.5
    assert first["mda_event"] is got.events[0]
    times = [meta["runner_time_ms"] for meta in got.metadata]
    assert times == sorted(times)


def test_moving_engine_goes_where_the_events_say(core: CMMCorePlus) -> None:
    plan = BY_NAME["autofocus_at_each_position"]
    got = run(core, engine_for(plan, core, move=True), plan.events())

    assert got.indices == expected_indices(plan)
    for event, meta in zip(got.events, got.metadata, strict=True):
        assert meta["position"]["x"] == pytest.approx(event.x_pos, abs=0.01)
        assert event.channel is not None
        excitation = {"DAPI": "375 nm", "FITC": "488 nm"}[event.channel.config]
        assert {"dev": "Excitation", "prop": "Label", "val": excitation} in meta["property_values"]


def test_lying_engine_announces_the_core_camera(core: CMMCorePlus) -> None:
    got = run(core, StampedEngine(core, dtype="uint8", lie=True), TEN_FRAMES)

    info = got.summary["image_infos"][0]
    assert (info["plane_shape"], info["dtype"]) == ((512, 512), "uint16")
    assert got.images[0].shape == (32, 32)
    assert got.images[0].dtype == np.uint8


def test_failing_engine_gives_all_frames_before(core: CMMCorePlus) -> None:
    core.mda.set_engine(StampedEngine(core, fail_at=4))
    got = Collector(core)

    with pytest.raises(EngineError, match="frame 4"):
        core.mda.run(TEN_FRAMES)

    assert got.indices == [{"t": t} for t in range(4)]
    assert core.mda.status.finish_reason == FinishReason.ERRORED


def test_cancelling_in_the_middle_keeps_the_frame_of_that_moment(core: CMMCorePlus) -> None:
    def on_frame(number: int) -> None:
        if number == 5:
            core.mda.cancel()

    got = run(core, StampedEngine(core, on_frame=on_frame), TEN_FRAMES)

    assert got.indices == [{"t": t} for t in range(6)]
    assert core.mda.status.finish_reason == FinishReason.CANCELED


def test_cancelling_between_two_cameras_still_gives_both(core: CMMCorePlus) -> None:
    def on_frame(number: int) -> None:
        if number == 4:
            core.mda.cancel()

    got = run(core, StampedEngine(core, cameras=2, on_frame=on_frame), TEN_FRAMES)

    assert [index["cam"] for index in got.indices] == [0, 1] * 3


def test_pausing_loses_nothing(core: CMMCorePlus) -> None:
    resume = threading.Timer(0.05, lambda: core.mda.set_paused(False))

    def on_frame(number: int) -> None:
        if number == 3:
            core.mda.set_paused(True)
            resume.start()

    toggled: list[bool] = []
    core.mda.events.sequencePauseToggled.connect(toggled.append)
    got = run(core, StampedEngine(core, on_frame=on_frame), TEN_FRAMES)

    assert got.indices == [{"t": t} for t in range(10)]
    assert toggled == [True, False]


def test_one_engine_runs_twice(core: CMMCorePlus) -> None:
    engine = StampedEngine(core, skip={0})
    assert run(core, engine, TEN_FRAMES).indices == run(core, engine, TEN_FRAMES).indices


# -------------------------------------------------------------------------- mm_configs/*.cfg


@pytest.fixture
def bare_core() -> Iterator[CMMCorePlus]:
    core = CMMCorePlus()
    yield core
    let_go(core)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("demo.cfg", (512, 512), "uint16"),
        ("two_cameras.cfg", (512, 512), "uint16"),
        ("rgb.cfg", (512, 512, 3), "uint8"),
    ],
)
def test_configuration_is_as_its_comments_say(
    bare_core: CMMCorePlus, name: str, shape: tuple[int, ...], dtype: str
) -> None:
    bare_core.loadSystemConfiguration(MM_CONFIGS / name)

    image = bare_core.snap()
    assert (image.shape, image.dtype.name) == (shape, dtype)
    assert image.std() > 0
    assert set(bare_core.getAvailableConfigs("Channel")) == {"FITC", "DAPI", "Cy5", "Rhodamine"}
    assert bare_core.getChannelGroup() == "Channel"
    assert bare_core.getPixelSizeUm() == 0.5
    assert bare_core.getFocusDirection("Z") == FocusDirection.TowardSample
    for preset in bare_core.getAvailableConfigs("Channel"):
        bare_core.setConfig("Channel", preset)
        assert bare_core.getCurrentConfig("Channel") == preset


def test_every_configuration_is_tested() -> None:
    assert {path.name for path in MM_CONFIGS.glob("*.cfg")} == {
        "demo.cfg",
        "two_cameras.cfg",
        "rgb.cfg",
    }


def test_two_cameras_give_two_frames_an_event(bare_core: CMMCorePlus) -> None:
    bare_core.loadSystemConfiguration(MM_CONFIGS / "two_cameras.cfg")
    got = run(bare_core, None, MDASequence(channels=["DAPI", "FITC"]))

    assert got.indices == [{"c": c, "cam": cam} for c in range(2) for cam in range(2)]
    assert [meta["camera_device"] for meta in got.metadata] == ["Camera-1", "Camera-2"] * 2
    assert got.summary["image_infos"][0]["num_camera_adapter_channels"] == 2


def test_stamped_summary_has_the_form_of_the_real_one(bare_core: CMMCorePlus) -> None:
    """Two stamped cameras on the one-camera core look like the real two cameras."""
    bare_core.loadSystemConfiguration(MM_CONFIGS / "two_cameras.cfg")
    real = run(bare_core, MDAEngine(bare_core, use_hardware_sequencing=False), TEN_FRAMES)
    bare_core.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
    engine = StampedEngine(bare_core, cameras=2, frame_shape=(512, 512))
    stamped = run(bare_core, engine, TEN_FRAMES)

    stamped.summary["image_infos"][0]["camera_label"] = "Multi Camera"  # here it is the only one
    assert stamped.summary["image_infos"] == real.summary["image_infos"]
    assert set(stamped.metadata[0]) == set(real.metadata[0])


def test_stamped_colour_has_the_memory_layout_of_the_real_one(bare_core: CMMCorePlus) -> None:
    bare_core.loadSystemConfiguration(MM_CONFIGS / "rgb.cfg")
    real = bare_core.snap()
    engine = StampedEngine(bare_core, frame_shape=(512, 512, 3), dtype="uint8")
    got = run(bare_core, engine, TEN_FRAMES)

    assert got.images[0].strides == real.strides
    assert not got.images[0].flags.c_contiguous


# ------------------------------------------------------------------------------------ stamps

DTYPES = ["uint8", "int16", "uint16", ">u2", "uint32", "float32", "float64"]
values = st.integers(0, 0xFFFF)
indices = st.dictionaries(st.sampled_from(AXES), values)
shapes = st.sampled_from([(16, 16), (16, 40), (33, 17), (64, 64), (16, 16, 3), (20, 31, 3)])
dtypes = st.sampled_from(DTYPES)


@given(indices, shapes, dtypes)
def test_stamps_round_trip(index: dict[str, int], shape: tuple[int, ...], dtype: str) -> None:
    frame = stamp(index, shape, dtype)
    assert (frame.shape, frame.dtype) == (shape, np.dtype(dtype))
    assert read_stamp(frame) == index
    check_stamp(frame, index)


@given(indices, indices, shapes, dtypes)
def test_a_frame_of_another_index_is_noticed(
    index: dict[str, int], other: dict[str, int], shape: tuple[int, ...], dtype: str
) -> None:
    if index != other:
        with pytest.raises(AssertionError, match="belongs"):
            check_stamp(stamp(index, shape, dtype), other)


@given(indices, shapes, dtypes, st.data())
def test_one_changed_value_is_noticed(
    index: dict[str, int], shape: tuple[int, ...], dtype: str, data: st.DataObject
) -> None:
    frame = stamp(index, shape, dtype)
    place = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    frame[place] = 1 if frame[place] == 0 else 0
    with pytest.raises(AssertionError):
        check_stamp(frame, index)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 3)])
def test_shifted_turned_and_torn_frames_are_noticed(shape: tuple[int, ...], dtype: str) -> None:
    frame, following = (stamp({"t": t}, shape, dtype) for t in (3, 4))
    torn = np.concatenate([frame[:16], following[16:]])
    damaged = [np.roll(frame, 1, axis) for axis in (0, 1)]
    damaged += [frame[::-1], frame.swapaxes(0, 1), torn, np.zeros_like(frame)]
    if frame.ndim == 3:
        damaged.append(frame[..., ::-1])
    for image in damaged:
        with pytest.raises(AssertionError, match="frame"):
            check_stamp(image, {"t": 3})


def test_custom_axes_are_told_apart_by_the_pattern() -> None:
    frame = stamp({"t": 1, "round": 2}, (32, 32), "uint8")
    check_stamp(frame, {"round": 2, "t": 1})
    with pytest.raises(AssertionError, match="not the one taken there"):
        check_stamp(frame, {"t": 1, "round": 3})


def test_twelve_bits_stay_below_4096() -> None:
    frame = stamp({"t": 1}, (64, 64), "uint16", bit_depth=12)
    assert 2048 < frame.max() < 4096
    check_stamp(frame, {"t": 1})


def test_patterns_use_all_bits() -> None:
    assert stamp({}, (64, 64), "uint16").max() > 0x8000
    assert stamp({}, (64, 64), "uint32").max() > 0x8000_0000


@pytest.mark.parametrize("index", [{"t": 65536}, {"t": -1}, {"round": 65536}])
def test_values_that_do_not_fit_are_refused(index: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="0 to 65535"):
        stamp(index, (16, 16), "uint8")


@pytest.mark.parametrize("shape", [(15, 16), (16, 15), (16,), (4, 16, 16, 3)])
def test_shapes_without_room_for_a_stamp_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least"):
        stamp({}, shape, "uint8")


@pytest.mark.parametrize("frame", [np.zeros((32, 32)), np.full((32, 32), 85), np.zeros((2, 2))])
def test_frames_without_a_stamp_say_so(frame: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="carr"):
        read_stamp(frame)
    with pytest.raises(AssertionError, match="No frame of"):
        check_stamp(frame, {"t": 0})
