"""One list of every kind of acquisition there is, each small enough to run in a blink.

A ``Plan`` is a name and a way to make its events afresh: useq's sequences and autofocus plans keep
state between iterations, and an iterator can be used only once. ``expected_indices`` says, from the
events alone, which frames the plan gives and in which order. A test takes a plan, lets
``engine_for(plan, core)`` run it, and asks whatever it is about whether each frame is at its index.
"""

from __future__ import annotations

from dataclasses import dataclass
from queue import Queue
from typing import TYPE_CHECKING, Any, TypeVar

import useq
from useq import MDAEvent, MDASequence, Position

from engine import StampedEngine, is_skipped, stamped_index, takes_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymmcore_plus import CMMCorePlus

    from engine import Skip

    Events = MDASequence | Iterable[MDAEvent]

# 32 pixels of 0.5 um (mm_configs/demo.cfg): a grid between edges has as many tiles for us, who
# count them beforehand, as for the engine, which asks the core for the size of the field
FIELD_UM = 16.0
FIELD = {"fov_width": FIELD_UM, "fov_height": FIELD_UM}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to acquire, and with which cameras; at most 150 frames."""

    name: str
    events: Callable[[], Events]
    frame_shape: tuple[int, ...] = (32, 32)
    dtype: str = "uint16"
    cameras: int = 1
    camera_shapes: tuple[tuple[int, ...], ...] | None = None
    skip: Skip | None = None
    bit_depth: int | None = None
    numbered: bool = False  # the stamp carries n, the number of the acquisition

    def __str__(self) -> str:
        return self.name


def engine_for(plan: Plan, core: CMMCorePlus, **options: Any) -> StampedEngine:
    """Return the engine that gives the frames of *plan*; *options* are those of StampedEngine."""
    return StampedEngine(
        core,
        frame_shape=plan.frame_shape,
        dtype=plan.dtype,
        bit_depth=plan.bit_depth,
        cameras=plan.cameras,
        camera_shapes=plan.camera_shapes,
        skip=plan.skip,
        numbered=plan.numbered,
        **options,
    )


def expected_indices(plan: Plan) -> list[dict[str, int]]:
    """Return the index (with ``cam``, where there are several) of each frame, in order."""
    return [
        {axis: value for axis, value in index.items() if axis != "n"}
        for index in expected_stamps(plan)
    ]


def expected_stamps(plan: Plan) -> list[dict[str, int]]:
    """Return what is stamped into each frame, in order.

    The same as ``expected_indices``, except that frames of events without any index, and those of
    numbered plans, are told apart by ``n``, the number of the acquisition.
    """
    cameras = len(plan.camera_shapes) if plan.camera_shapes else plan.cameras
    return [
        stamped_index(_seen_by(event, cam, cameras), number, plan.numbered)
        for number, event in enumerate(_exposing_events(plan))
        for cam in range(cameras)
    ]


def _seen_by(event: MDAEvent, cam: int, cameras: int) -> MDAEvent:
    """Return the event of one camera: only where there are several does its index say which."""
    index = {**event.index, "cam": cam} if cameras > 1 else event.index
    return event.model_copy(update={"index": index})


def _exposing_events(plan: Plan) -> Iterator[MDAEvent]:
    for number, event in enumerate(plan.events()):
        if takes_frames(event) and not is_skipped(event, number, plan.skip):
            yield event


# ---------------------------------------------------------------- words the plans are made of

TIME = {"interval": 0, "loops": 3}
STACK = {"range": 4, "step": 2}  # three planes around the position
CHANNELS = ["DAPI", "FITC"]
GRID = {"rows": 2, "columns": 2, **FIELD}
POSITIONS = [Position(x=0, y=0, z=10, name="left"), Position(x=100, y=50, z=20, name="right")]


def seq(**plans: Any) -> MDASequence:
    """Return a sequence; plans may be given as dicts, which useq validates."""
    return MDASequence(**plans)


def named(*names: str) -> MDASequence:
    """Return two channels at positions of these names."""
    positions = [Position(x=10 * n, y=0, z=0, name=name) for n, name in enumerate(names)]
    return seq(stage_positions=positions, channels=CHANNELS)


def at(x: float, *, name: str | None = None, **subsequence: Any) -> Position:
    """Return a position with a sub-sequence of its own, if any plans are given."""
    sub = seq(**subsequence) if subsequence else None
    return Position(x=x, y=0, z=0, name=name, sequence=sub)


def wells(points: Any) -> MDASequence:
    """Return two channels in three wells of a 24-well plate."""
    plate = useq.WellPlatePlan(
        plate=24,
        a1_center_xy=(0, 0),
        selected_wells=([0, 0, 1], [0, 1, 2]),  # A1, A2, B3
        well_points_plan=points,
    )
    return seq(stage_positions=plate, channels=CHANNELS)


def event(**index: int) -> MDAEvent:
    """Return an event at *index*, with channel and position to match."""
    known: dict[str, Any] = {"exposure": 1.0}
    if (c := index.get("c")) is not None:
        known["channel"] = ("DAPI", "FITC", "Cy5", "Rhodamine")[c]
    if (p := index.get("p")) is not None:
        known.update(x_pos=100.0 * p, y_pos=0.0, pos_name=f"Pos{p}")
    if (z := index.get("z")) is not None:
        known["z_pos"] = float(z)
    return MDAEvent(index=index, **known)


T = TypeVar("T")


def queued(items: Iterable[T]) -> Iterator[T]:
    """Return *items* as an acquisition driven by a queue gets them: one by one, until None."""
    queue: Queue[T | None] = Queue()
    for item in items:
        queue.put(item)
    queue.put(None)
    return iter(queue.get, None)


def in_every_order(order: str) -> Plan:
    """Return a plan with all axes of *order* used."""
    plans: dict[str, Any] = {
        "t": {"time_plan": {"interval": 0, "loops": 2}},
        "p": {"stage_positions": POSITIONS},
        "g": {"grid_plan": GRID},
        "c": {"channels": CHANNELS},
        "z": {"z_plan": STACK},
    }
    used = {name: value for axis in order for name, value in plans[axis].items()}
    return Plan(f"order_{order}", lambda: seq(axis_order=order, **used))


# ---------------------------------------------------------------------------- the catalogue

ORDERS = (
    *(in_every_order(order) for order in ("tpcz", "tpzc", "ptcz", "ptzc", "pctz", "cztp", "zcpt")),
    *(in_every_order(order) for order in ("tpgcz", "tgpzc", "gptcz", "pgczt", "czgpt", "gz")),
)

CHANNEL_PLANS = (
    Plan(
        "acquire_every_third",
        lambda: seq(
            time_plan={"interval": 0, "loops": 7},
            channels=["DAPI", {"config": "FITC", "acquire_every": 3}],
        ),
    ),
    Plan(
        "do_stack_false",  # only the middle plane of the second channel
        lambda: seq(
            time_plan=TIME,
            channels=["DAPI", {"config": "FITC", "do_stack": False}],
            z_plan={"range": 8, "step": 2},
        ),
    ),
    Plan(
        "acquire_every_and_do_stack_false_in_the_first_channel",
        lambda: seq(
            axis_order="tpzc",
            time_plan={"interval": 0, "loops": 4},
            stage_positions=POSITIONS,
            channels=[{"config": "DAPI", "acquire_every": 2, "do_stack": False}, "FITC"],
            z_plan=STACK,
        ),
    ),
    Plan(
        "channel_z_offsets_and_exposures",
        lambda: seq(
            channels=[
                {"config": "DAPI", "exposure": 5},
                {"config": "FITC", "exposure": 0.5, "z_offset": 1.5},
                {"config": "Cy5", "exposure": 50, "z_offset": -3},
            ],
            z_plan=STACK,
            stage_positions=POSITIONS,
        ),
    ),
    Plan(
        "one_preset_twice",
        lambda: seq(time_plan=TIME, channels=["DAPI", {"config": "DAPI", "exposure": 2}]),
    ),
    Plan(
        "one_preset_name_in_two_groups",
        lambda: seq(channels=["20X", {"config": "20X", "group": "Objective"}], z_plan=STACK),
    ),
)

Z_PLANS = (
    Plan("z_absolute", lambda: seq(z_plan={"absolute": [5.0, 7.5, 20.0]}, channels=CHANNELS)),
    Plan(
        "z_relative",  # not evenly spaced, and not in order
        lambda: seq(z_plan={"relative": [0.0, -4.0, 2.5, 9.0]}, stage_positions=POSITIONS),
    ),
    Plan(
        "z_top_bottom_downwards",
        lambda: seq(z_plan={"top": 30, "bottom": 20, "step": 2.5, "go_up": False}, time_plan=TIME),
    ),
    Plan(
        "z_above_below",
        lambda: seq(
            z_plan={"above": 4, "below": 2, "step": 2},
            stage_positions=POSITIONS,
            channels=CHANNELS,
        ),
    ),
)

TIME_PLANS = (
    Plan("time_loops", lambda: seq(time_plan={"interval": 0.001, "loops": 20})),
    Plan(
        "time_many_phases",
        lambda: seq(
            time_plan=[
                {"interval": 0.001, "loops": 4},
                {"interval": 0.004, "duration": 0.012},
                {"duration": 0.01, "loops": 3},
            ],
            channels=CHANNELS,
        ),
    ),
    Plan(
        "time_bound_by_duration",
        lambda: seq(time_plan={"interval": 0.002, "duration": 0.02}, z_plan=STACK),
    ),
    Plan("time_duration_and_loops", lambda: seq(time_plan={"duration": 0.01, "loops": 6})),
)

GRID_PLANS = (
    Plan(
        "grid_row_wise_relative",
        lambda: seq(grid_plan={"rows": 2, "columns": 3, "mode": "row_wise", **FIELD}),
    ),
    Plan(
        "grid_row_wise_snake_at_each_position",
        lambda: seq(
            stage_positions=POSITIONS,
            grid_plan={"rows": 3, "columns": 2, "mode": "row_wise_snake", **FIELD},
            channels=CHANNELS,
        ),
    ),
    Plan(
        "grid_column_wise_snake",
        lambda: seq(
            grid_plan={"rows": 3, "columns": 3, "mode": "column_wise_snake", **FIELD},
            z_plan=STACK,
        ),
    ),
    Plan(
        "grid_spiral_with_overlap",
        lambda: seq(
            grid_plan={"rows": 3, "columns": 3, "mode": "spiral", "overlap": 10, **FIELD},
            channels=CHANNELS,
        ),
    ),
    Plan(
        "grid_between_edges_absolute",
        lambda: seq(
            grid_plan={"top": 40, "left": 0, "bottom": 0, "right": 40, **FIELD}, channels=CHANNELS
        ),
    ),
    Plan(
        "grid_by_width_and_height",
        lambda: seq(time_plan=TIME, grid_plan={"width": 40, "height": 20, **FIELD}),
    ),
    Plan(
        "grid_over_a_polygon",
        lambda: seq(
            grid_plan=useq.GridFromPolygon(vertices=[(0, 0), (60, 0), (0, 60)], **FIELD),
            channels=CHANNELS,
        ),
    ),
    Plan(
        "random_points",
        lambda: seq(
            grid_plan=useq.RandomPoints(
                num_points=5, max_width=500, max_height=500, random_seed=3, **FIELD
            ),
            channels=CHANNELS,
            z_plan=STACK,
        ),
    ),
    Plan(
        "grid_under_one_of_two_positions",
        lambda: seq(
            stage_positions=[at(0, name="plain"), at(100, name="tiled", grid_plan=GRID)],
            channels=CHANNELS,
        ),
    ),
    Plan(
        "grids_of_other_sizes_under_positions",
        lambda: seq(
            stage_positions=[
                at(0, grid_plan=GRID),
                at(100, grid_plan={"rows": 1, "columns": 3, **FIELD}),
            ],
            channels=CHANNELS,
            z_plan=STACK,
        ),
    ),
    Plan(
        "absolute_grid_under_a_position",
        lambda: seq(
            stage_positions=[
                at(0, name="plain"),
                Position(
                    name="region",
                    sequence=seq(
                        grid_plan={"top": 32, "left": 0, "bottom": 0, "right": 32, **FIELD}
                    ),
                ),
            ],
            time_plan=TIME,
        ),
    ),
)

POSITION_PLANS = (
    Plan(
        "ragged_z",
        lambda: seq(
            stage_positions=[
                at(0, name="thin", z_plan={"range": 2, "step": 1}),
                at(10, name="flat"),
                at(20, name="thick", z_plan={"range": 6, "step": 1}),
            ],
            channels=CHANNELS,
        ),
    ),
    Plan(
        "ragged_z_other_than_the_common_stack",
        lambda: seq(
            stage_positions=[at(0), at(10, z_plan={"range": 8, "step": 1}), at(20)],
            channels=CHANNELS,
            z_plan=STACK,
        ),
    ),
    Plan(
        "ragged_t",
        lambda: seq(
            stage_positions=[
                at(0, time_plan={"interval": 0, "loops": 2}),
                at(10, time_plan={"interval": 0, "loops": 5}),
            ],
            channels=CHANNELS,
        ),
    ),
    Plan(
        "ragged_channels",
        lambda: seq(
            stage_positions=[
                at(0, channels=["DAPI", "FITC", "Cy5"]),
                at(10, channels=["Rhodamine"]),
                at(20, channels=["FITC", "DAPI"]),  # the same two, in another order
            ],
            time_plan=TIME,
        ),
    ),
    Plan(
        "ragged_in_everything",
        lambda: seq(
            stage_positions=[
                at(0),
                at(10, channels=["Cy5"], z_plan={"range": 8, "step": 2}),
                at(20, grid_plan=GRID, time_plan={"interval": 0, "loops": 2}),
                at(30, axis_order="zc", channels=["FITC", "Cy5"], z_plan=STACK),
            ],
        ),
    ),
    Plan("positions_without_coordinates", lambda: seq(stage_positions=[{}, {"z": 3}, {"x": 1}])),
    Plan(
        "many_positions",
        lambda: seq(stage_positions=[(10 * n, 5 * n, n) for n in range(60)], channels=CHANNELS),
    ),
    Plan("wells_with_one_field", lambda: wells(useq.RelativePosition())),
    Plan(
        "wells_with_a_grid_of_fields",
        lambda: wells(useq.GridRowsColumns(rows=2, columns=2, **FIELD)),
    ),
    Plan(
        "wells_with_random_fields",
        lambda: wells(
            useq.RandomPoints(num_points=3, max_width=8000, max_height=8000, random_seed=7, **FIELD)
        ),
    ),
)

AUTOFOCUS_AND_SHUTTER_PLANS = (
    Plan(
        "autofocus_at_each_position",
        lambda: seq(
            stage_positions=POSITIONS,
            time_plan=TIME,
            channels=CHANNELS,
            autofocus_plan={"autofocus_motor_offset": 25, "axes": ("p",)},
        ),
    ),
    Plan(
        "autofocus_at_one_position_and_each_plane",
        lambda: seq(
            stage_positions=[at(0), at(10, autofocus_plan={"axes": ("z", "c")})],
            channels=CHANNELS,
            z_plan=STACK,
        ),
    ),
    Plan(
        "shutter_open_across_z",
        lambda: seq(
            stage_positions=POSITIONS,
            channels=CHANNELS,
            z_plan=STACK,
            keep_shutter_open_across="z",
        ),
    ),
    Plan(
        "with_a_setup_event",
        lambda: seq(setup=MDAEvent(exposure=2.0), channels=CHANNELS, time_plan=TIME),
    ),
)

EVENT_PLANS = (
    Plan(
        "list_of_events",
        lambda: [event(t=t, c=c, z=z) for t in range(3) for c in range(2) for z in range(2)],
    ),
    Plan(
        "list_from_a_sequence",
        lambda: list(seq(stage_positions=POSITIONS, channels=CHANNELS, z_plan=STACK)),
    ),
    Plan(
        "iterator_of_events",
        lambda: (event(p=p, c=c) for p in range(3) for c in range(4)),
    ),
    Plan(
        "iterator_of_a_sequence",
        lambda: iter(seq(time_plan=TIME, channels=CHANNELS, grid_plan=GRID)),
    ),
    Plan(
        "queue_of_events",
        lambda: queued([event(t=t, p=p) for t in range(5) for p in range(2)]),
    ),
    Plan(
        "queue_growing_in_odd_order",  # first z alone, then other channels, last of all time
        lambda: queued(
            [event(z=z, c=0, t=0) for z in range(4)]
            + [event(z=z, c=c, t=0) for c in (1, 2) for z in (3, 1)]
            + [event(z=0, c=c, t=t) for t in (1, 2) for c in (2, 0)]
            + [event(z=6, c=1, t=3)]
        ),
    ),
    Plan(
        "queue_with_axes_that_come_later",  # the first events know nothing of t
        lambda: queued(
            [event(z=z) for z in range(3)] + [event(t=t, z=z) for t in (1, 2) for z in range(2)]
        ),
    ),
    Plan(
        "events_backwards_and_with_gaps",
        lambda: [event(t=t, p=p) for t in (12, 7, 3, 0) for p in (2, 0)],
    ),
    Plan(
        "events_with_large_indices",
        lambda: [event(t=t, c=c) for t in (0, 255, 256, 300) for c in (0, 3)],
    ),
    Plan("events_without_index", lambda: [MDAEvent(exposure=1.0) for _ in range(7)]),
    Plan(
        "events_without_index_from_a_queue",
        lambda: queued([MDAEvent(x_pos=float(n), y_pos=0.0) for n in range(5)]),
    ),
    Plan(
        "events_with_custom_axes",
        lambda: [
            MDAEvent(index={"round": r, "t": t, "polarisation": a}, exposure=1.0)
            for r in range(2)
            for t in range(3)
            for a in range(2)
        ],
    ),
    Plan("no_events", lambda: MDASequence()),
    Plan("no_events_from_an_iterator", lambda: iter(())),
    Plan("single_frame", lambda: seq(stage_positions=[(0, 0, 0)])),
    Plan("single_event_without_index", lambda: [MDAEvent()]),
)

SKIPPED_PLANS = (
    Plan(
        "skipped_by_number",  # the very first, some in the middle, the last
        lambda: seq(time_plan={"interval": 0, "loops": 5}, channels=CHANNELS, z_plan=STACK),
        skip=frozenset({0, 7, 8, 9, 29}),
    ),
    Plan(
        "skipped_position",
        lambda: seq(stage_positions=[*POSITIONS, (200, 0, 0)], channels=CHANNELS, time_plan=TIME),
        skip=lambda event: event.index["p"] == 1,
    ),
    Plan(
        "skipped_with_two_cameras",
        lambda: seq(time_plan=TIME, channels=CHANNELS),
        cameras=2,
        skip=frozenset({1, 4}),
    ),
    Plan("skipped_all", lambda: seq(time_plan=TIME), skip=lambda event: True),
)

NAME_PLANS = (
    Plan(
        "names_with_slashes",
        lambda: named("A/1", "A\\1", "../up", "/root", "C:\\x", "a:b", 'x*?"<>|', "tab\tline\n"),
    ),
    Plan(
        "names_in_unicode",
        # twice é: as one character, and as an e with the accent behind it
        lambda: named("µ-Probe", "\u00e9", "e\u0301", "細胞", "خلية", "🔬", "\u200b", "ﬁ"),
    ),
    Plan("names_twice", lambda: named("A", "A", "A_1", "A", "B", "A_2", "_1")),
    Plan("names_that_differ_in_case", lambda: named("well", "Well", "WELL", "straße", "STRASSE")),
    Plan("names_reserved", lambda: named("CON", "nul", "COM1", "aux.txt", ".", "..", "~", "-rf")),
    Plan("names_with_trailing_dots", lambda: named("end.", "end", "end ", " end", "...", "a.tiff")),
    Plan("names_very_long", lambda: named("x" * 300, "x" * 299 + "y", "細" * 200, "x" * 300)),
    Plan("names_missing_or_empty", lambda: named("", "Pos0", "p0", "0", "", "None")),
)

CAMERA_PLANS = (
    Plan(
        "two_cameras",
        lambda: seq(time_plan=TIME, stage_positions=POSITIONS, channels=CHANNELS, z_plan=STACK),
        cameras=2,
    ),
    Plan("two_cameras_without_channels", lambda: seq(time_plan=TIME), cameras=2),
    Plan(
        "two_cameras_on_a_list_of_events",
        lambda: [event(t=t, c=c) for t in range(3) for c in range(2)],
        cameras=2,
    ),
    Plan(
        "two_cameras_on_ragged_positions",
        lambda: seq(
            stage_positions=[at(0), at(10, z_plan=STACK), at(20, grid_plan=GRID)],
            channels=CHANNELS,
        ),
        cameras=2,
    ),
    Plan("three_cameras", lambda: seq(channels=CHANNELS, z_plan=STACK), cameras=3),
    Plan(
        "cameras_of_other_sizes",
        lambda: seq(time_plan=TIME, stage_positions=POSITIONS, channels=CHANNELS),
        cameras=2,
        camera_shapes=((32, 32), (48, 64)),
    ),
    Plan(
        "cameras_of_three_sizes",
        lambda: seq(channels=CHANNELS, z_plan=STACK),
        cameras=3,
        camera_shapes=((16, 40), (32, 32), (24, 24)),
    ),
)


def usual() -> MDASequence:
    """Return an ordinary acquisition, for plans that are about the pixels."""
    return seq(time_plan=TIME, stage_positions=POSITIONS, channels=CHANNELS, z_plan=STACK)


PIXEL_PLANS = (
    Plan("rgb", usual, frame_shape=(32, 32, 3), dtype="uint8"),
    Plan("rgb_16_bit", usual, frame_shape=(32, 32, 3), dtype="uint16"),
    Plan("rgb_with_two_cameras", usual, frame_shape=(32, 32, 3), dtype="uint8", cameras=2),
    Plan("8_bit", usual, dtype="uint8"),
    Plan("12_bit", usual, bit_depth=12),
    Plan("32_bit", usual, dtype="uint32"),
    Plan("signed_16_bit", usual, dtype="int16"),
    Plan("float_32", usual, dtype="float32"),
    Plan("float_64", usual, dtype="float64"),
    Plan("odd_frame_size", usual, frame_shape=(37, 53)),
    Plan("smallest_frame", usual, frame_shape=(16, 16), dtype="uint8"),
)

PLANS: tuple[Plan, ...] = (
    *ORDERS,
    *CHANNEL_PLANS,
    *Z_PLANS,
    *TIME_PLANS,
    *GRID_PLANS,
    *POSITION_PLANS,
    *AUTOFOCUS_AND_SHUTTER_PLANS,
    *EVENT_PLANS,
    *SKIPPED_PLANS,
    *NAME_PLANS,
    *CAMERA_PLANS,
    *PIXEL_PLANS,
)

# Not in PLANS, because "the frame at an index" is not one frame here: for each of these, useq (or
# the user) asks for several frames at one index. None of them may be lost without a word.
REPEATING_PLANS: tuple[Plan, ...] = (
    Plan(
        "repeating_time_under_time",  # 3 outer times 2 inner time points, all called t=0 and t=1
        lambda: seq(time_plan=TIME, stage_positions=[at(0, time_plan={"interval": 0, "loops": 2})]),
        numbered=True,
    ),
    Plan(
        "repeating_stack_under_stack_with_autofocus",  # without the autofocus, useq takes one
        lambda: seq(
            z_plan=STACK,
            stage_positions=[at(0, z_plan=STACK, autofocus_plan={"axes": ("p",)})],
        ),
        numbered=True,
    ),
    Plan(
        "repeating_events_in_a_list",
        lambda: [event(t=t, c=c) for t in (0, 1, 0, 2, 2) for c in range(2)],
        numbered=True,
    ),
)

NAMED = {plan.name: plan for plan in PLANS + REPEATING_PLANS}


def plans_named(*names: str) -> list[Plan]:
    """Return the plans of these names, for a test that need not run all of them."""
    return [NAMED[name] for name in names]
