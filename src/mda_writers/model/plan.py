"""Which images a sequence of events will make, and how many frames each of them holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import useq

from mda_writers.model.layout import AXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from useq import MDAEvent, MDASequence

    from mda_writers.model.microscope import MicroscopeInfo


ImageIndex = tuple[tuple[str, int], ...]
"""The part of an event's index that chooses an image: every axis but t, c, z and cam."""

RUN_MARK = "runner_t0"
"""Where pymmcore-plus's runner notes in an event that it goes on to execute it. It takes the note
away with the event's first frame; an event that was skipped never gets it."""

NOT_RUN = 0.0


def image_index(index: Mapping[str, int]) -> ImageIndex:
    """Return the part of `index` that chooses an image."""
    axes = _image_axes(tuple(index))
    return tuple([(axis, index[axis]) for axis in axes]) if axes else ()


@dataclass(slots=True)
class PlannedImage:
    """What the plan says about one image, before cameras and frames are known.

    `sizes` holds the axes t, c, z as far as the plan uses them, slowest first; `indices` the
    planned places where the plan leaves some out, and None where it fills the complete box.
    `cameras` says which cameras take which channel, where channels switch the camera; `indices`
    then have the number of the camera behind them.
    """

    image_index: ImageIndex
    name: str
    sizes: dict[str, int]
    channels: dict[int, tuple[str, str]] = field(default_factory=dict)
    position_um: tuple[float | None, float | None, float | None] | None = None
    indices: set[tuple[int, ...]] | None = None
    cameras: dict[int, tuple[str, ...]] = field(default_factory=dict)
    z_step_um: float | None = None
    time_interval_s: float | None = None


@cache
def _image_axes(axes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(str(axis) for axis in axes if axis not in ("t", "c", "z", "cam")))


def repeated(chosen: ImageIndex, times: int) -> ImageIndex:
    """Return the image for a frame whose place was filled `times` times before.

    useq itself can ask for several frames at one index (a time plan under a time plan). None of
    them may destroy another, so each repetition has separate images.
    """
    return chosen if times == 0 else (*chosen, ("repeat", times))


def is_open_ended(sequence: MDASequence) -> bool:
    """Whether `sequence` only stands for events of unknown number and shape.

    pymmcore-plus hands such a placeholder to handlers when it runs a list or an iterator of
    events. Its class is private there, so it is known by its name.
    """
    return any(c.__name__ == "GeneratorMDASequence" for c in type(sequence).__mro__)


def planned_images(
    sequence: MDASequence, microscope: MicroscopeInfo | None = None
) -> list[PlannedImage]:
    """Return the images that `sequence` will make, in order of acquisition.

    With a `microscope`, channels whose presets switch the camera are planned with those cameras.

    Raises
    ------
    ValueError
        If the sequence holds no events at all.
    """
    if not sequence.used_axes:
        raise ValueError(
            "The sequence is empty: it has no channels, positions, z planes or time points. "
            "Give it at least one, for example channels=['FITC']."
        )
    if microscope is not None and not _switches_cameras(sequence, microscope):
        microscope = None
    if _fills_its_box(sequence):
        cameras = _cameras_of_channels(sequence, microscope) if microscope else {}
        if cameras is not None:
            return list(_boxes(sequence, cameras))
    # a copy: autofocus plans remember what they yielded, and the run must not notice us
    events = sequence.model_copy(deep=True)
    return list(_from_events(events, sequence.axis_order, microscope))


def _switches_cameras(sequence: MDASequence, microscope: MicroscopeInfo) -> bool:
    """Whether a channel of `sequence` selects another camera than the one that is selected."""
    sequences = [sequence, *(p.sequence for p in sequence.stage_positions if p.sequence)]
    presets = {(c.group, c.config) for each in sequences for c in each.channels}
    return any(
        microscope.presets.get(preset, microscope.selected) != microscope.selected
        for preset in presets
    )


def _cameras_of_channels(
    sequence: MDASequence, microscope: MicroscopeInfo
) -> dict[int, tuple[str, ...]] | None:
    """Return the cameras that take each channel; None where one has not the same every time.

    A channel that selects no camera is taken with the one of the channel before. The first one
    comes after the last one the next time.
    """
    devices = []
    device = microscope.selected
    for channel in sequence.channels:
        device = microscope.presets.get((channel.group, channel.config), device)
        devices.append(device)
    first = sequence.channels[0]
    if device != microscope.selected and (first.group, first.config) not in microscope.presets:
        return None
    return {c: _labels(microscope, device) for c, device in enumerate(devices)}


def _labels(microscope: MicroscopeInfo, device: str) -> tuple[str, ...]:
    """Return the labels of the cameras behind a device."""
    return tuple(camera.label for camera in microscope.devices.get(device, ())) or (device,)


class _SelectedCamera:
    """The camera device that is selected, event by event, as the engine sets events up."""

    def __init__(self, microscope: MicroscopeInfo) -> None:
        self._microscope = microscope
        self._device = microscope.selected
        self._preset = ("", "")

    def labels_at(self, event: MDAEvent) -> tuple[str, ...]:
        """Return the cameras that take `event`; to be asked for every event, in order."""
        if event.channel:
            preset = (event.channel.group, event.channel.config)
            if preset != self._preset:
                self._device = self._microscope.presets.get(preset, self._device)
            self._preset = preset
        return _labels(self._microscope, self._device)


def takes_frame(event: MDAEvent) -> bool:
    """Whether `event` takes an image; autofocus and other actions take none."""
    return isinstance(event.action, useq.AcquireImage)


def _fills_its_box(sequence: MDASequence) -> bool:
    """Whether every combination of indices is acquired, as far as that is plain to see.

    The number of tiles of a grid depends on the field of view, and ``sizes`` may remember an
    older one: grids are asked for their events.
    """
    if sequence.grid_plan is not None or any(p.sequence for p in sequence.stage_positions):
        return False
    return all(
        c.acquire_every == 1 and (c.do_stack or sequence.z_plan is None) for c in sequence.channels
    )


def _boxes(sequence: MDASequence, cameras: dict[int, tuple[str, ...]]) -> Iterator[PlannedImage]:
    """Return one full box an image, without iterating over what may be a million events."""
    sizes = {str(axis): n for axis, n in sequence.sizes.items() if n}
    outer = [axis for axis in sizes if axis not in AXES]
    channels = {i: (c.config, c.group) for i, c in enumerate(sequence.channels)}
    positions = list(sequence.stage_positions)
    heights = list(sequence.z_plan) if sequence.z_plan else []
    first_z_um = _first_z_um(sequence, heights)
    for indices in product(*(range(sizes[axis]) for axis in outer)):
        index = dict(zip(outer, indices, strict=True))
        position = positions[index["p"]] if "p" in index else None
        yield PlannedImage(
            image_index=image_index(index),
            name=image_name(index, getattr(position, "name", None)),
            sizes={axis: n for axis, n in sizes.items() if axis in AXES},
            channels=channels,
            position_um=_begin_um(sequence, position, first_z_um),
            cameras=cameras,
            z_step_um=_step(dict(enumerate(heights))) or _step_of_one(sequence.z_plan),
            time_interval_s=_interval_s(sequence.time_plan),
        )


def _begin_um(
    sequence: MDASequence, position: Any, first_z_um: float | None
) -> tuple[float | None, float | None, float | None] | None:
    """Return where an image's first plane is on the stage, as useq computes it for events."""
    if position is None:
        return None if first_z_um is None else (None, None, first_z_um)
    z_um = position.z
    if first_z_um is not None:
        relative = sequence.z_plan is not None and sequence.z_plan.is_relative
        z_um = first_z_um + (z_um or 0.0) * relative
    return position.x, position.y, z_um


def _first_z_um(sequence: MDASequence, heights: Sequence[float]) -> float | None:
    if not heights:
        return None
    return float(heights[0]) + (sequence.channels[0].z_offset if sequence.channels else 0.0)


def _step_of_one(plan: Any) -> float | None:
    """Return the step of a z plan that has one plane only."""
    step = getattr(plan, "step", None)
    if not isinstance(step, int | float) or not step:
        return None
    return abs(step) if plan.go_up else -abs(step)


def _interval_s(plan: Any) -> float | None:
    """Return the time between two time points in s, where the plan has one and only one."""
    phases = getattr(plan, "phases", (plan,) if plan else ())
    # a phase of a single time point has no interval: useq divides by zero
    intervals = {phase.interval for phase in phases if phase.loops > 1}
    return (intervals.pop().total_seconds() or None) if len(intervals) == 1 else None


def _along(axis: str, events: Iterable[MDAEvent]) -> dict[int, float | None]:
    """Return index → height in µm or time in s, as the events of one channel have them."""
    found: dict[tuple[int, int], float | None] = {}
    for event in events:
        if axis in event.index:
            value = event.z_pos if axis == "z" else event.min_start_time
            # offsets of channels are not steps
            found.setdefault((event.index.get("c", 0), event.index[axis]), value)
    by_channel: defaultdict[int, dict[int, float | None]] = defaultdict(dict)
    for (c, i), value in found.items():
        by_channel[c][i] = value
    return max(by_channel.values(), key=len, default={})


def _step(values: Mapping[int, float | None]) -> float | None:
    """Return the distance of neighbours, where it is the same everywhere."""
    known = sorted((i, value) for i, value in values.items() if value is not None)
    steps = {round((b - a) / (j - i), 6) for (i, a), (j, b) in pairwise(known)}
    return (steps.pop() or None) if len(steps) == 1 else None


def _from_events(
    events: Iterable[MDAEvent], axis_order: Iterable[str], microscope: MicroscopeInfo | None
) -> Iterator[PlannedImage]:
    """Return the images that `events` make: the exact way, where boxes have holes or differ.

    With a `microscope`, each event is planned with the cameras that are selected by then.
    """
    groups: defaultdict[ImageIndex, list[MDAEvent]] = defaultdict(list)
    seen: Counter[frozenset[tuple[str, int]]] = Counter()
    selected = _SelectedCamera(microscope) if microscope else None
    cameras: dict[int, tuple[str, ...]] = {}
    for event in events:
        labels = selected.labels_at(event) if selected else ()
        if not takes_frame(event):
            continue
        place = frozenset(event.index.items())
        groups[repeated(image_index(event.index), seen[place])].append(event)
        seen[place] += 1
        cameras[id(event)] = labels  # the groups keep the events alive
    for chosen, members in groups.items():
        used = {str(axis) for event in members for axis in event.index}
        order = [axis for axis in dict.fromkeys((*map(str, axis_order), *AXES)) if axis in AXES]
        axes = [axis for axis in order if axis in used]
        indices = {tuple(e.index.get(axis, 0) for axis in axes) for e in members}
        first = members[0]
        yield PlannedImage(
            image_index=chosen,
            name=image_name(dict(chosen), first.pos_name),
            sizes={axis: max(i[n] for i in indices) + 1 for n, axis in enumerate(axes)},
            channels={
                e.index.get("c", 0): (e.channel.config, e.channel.group)
                for e in members
                if e.channel
            },
            position_um=(first.x_pos, first.y_pos, first.z_pos),
            indices=_with_camera_numbers(members, axes, cameras) if selected else indices,
            cameras=_most_by_channel(members, cameras) if selected else {},
            z_step_um=_step(_along("z", members)),
            time_interval_s=_step(_along("t", members)),
        )


def _with_camera_numbers(
    events: Iterable[MDAEvent], axes: Sequence[str], cameras: Mapping[int, tuple[str, ...]]
) -> set[tuple[int, ...]]:
    return {
        (*(event.index.get(axis, 0) for axis in axes), number)
        for event in events
        for number in range(len(cameras[id(event)]))
    }


def _most_by_channel(
    events: Iterable[MDAEvent], cameras: Mapping[int, tuple[str, ...]]
) -> dict[int, tuple[str, ...]]:
    """Return for each channel the cameras that take it when most do."""
    most: dict[int, tuple[str, ...]] = {}
    for event in events:
        c, labels = event.index.get("c", 0), cameras[id(event)]
        if len(labels) > len(most.get(c, ())):
            most[c] = labels
    return most


def image_name(index: Mapping[str, int], position_name: str | None) -> str:
    """Return what to call an image: its position's name, and a number for every further axis."""
    parts = [f"{axis}{i:04d}" for axis, i in sorted(index.items()) if axis != "p"]
    if position_name or "p" in index or not parts:
        parts.insert(0, position_name or f"p{index.get('p', 0)}")
    return "_".join(parts)


def mark_begun(event: MDAEvent) -> None:
    """Have `event` say afterwards whether it was skipped; at its begin, on the runner's thread.

    A SkipEvent is not announced. Without this mark an event that was skipped would look
    like one whose frame came, and was lost on its way.
    """
    event.metadata[RUN_MARK] = NOT_RUN
