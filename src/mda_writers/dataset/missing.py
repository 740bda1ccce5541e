"""Which planned frames are not on disk."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.dataset.coordinates import CoordinateError, cameras_of
from mda_writers.dataset.sources import MISSING
from mda_writers.model.channels import CameraChannels
from mda_writers.model.plan import planned_images
from mda_writers.model.report import MISSING_LISTED
from mda_writers.model.run_images import of_camera, side_by_side
from mda_writers.model.scope import Scope
from mda_writers.recording.runs import dense

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.dataset.coordinates import Coordinates
    from mda_writers.dataset.sources import Contents, FrameSource
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.plan import PlannedImage


def missing_frames(
    source: FrameSource, contents: Contents, coordinates: Coordinates
) -> list[dict[str, Any]]:
    """Return the coordinates of planned frames that are not on disk, at most `MISSING_LISTED`.

    A recording that has ended has told them in its report; before that they are counted here.
    Those whose file was lost afterwards follow.
    """
    lost = (
        coordinates.of(image, place)
        for image in contents.layout.images
        for place in sorted(source.lost(image))
    )
    if contents.report is not None:
        told = [*contents.report.get("skipped", ()), *contents.report.get("missing", ())]
        known = [each for index in told for each in _of_event(index, coordinates)]
        return [*known, *islice(lost, max(0, MISSING_LISTED - len(known)))]
    holes = _planned_places(contents)
    found = (
        coordinates.of(image, place)
        for image in contents.layout.images
        if not image.growing
        for place in _unwritten(dense(source.slots(image.key)), holes.get(image.key))
    )
    return list(islice(chain(found, lost, contents.lost), MISSING_LISTED))


def _of_event(index: dict[str, int], coordinates: Coordinates) -> list[dict[str, Any]]:
    """Return the coordinates of an event's frames, one a camera.

    They are its index as it is where no frame of its image was ever written.
    """
    cameras = 1 if "cam" in index else max(map(cameras_of, coordinates.images), default=1)
    events = [index] if cameras == 1 else [{**index, "cam": n} for n in range(cameras)]
    found: list[dict[str, Any]] = []
    unknown = False
    for event in events:
        try:
            chosen = coordinates.find(event)
        except CoordinateError:
            # a camera that does not take the channel lacks nothing: the first one takes all
            unknown = unknown or event.get("cam", 0) == 0 or event == index
            if unknown:
                found.append(dict(event))
        else:
            found.append(coordinates.of(chosen.image, chosen.place))
    return found


def _unwritten(slots: np.ndarray, planned: np.ndarray | None) -> Iterator[tuple[int, ...]]:
    absent = slots == MISSING if planned is None else (slots == MISSING) & planned
    return (tuple(map(int, place)) for place in np.argwhere(absent))


def _planned_places(contents: Contents) -> dict[str, np.ndarray]:
    """Return which places were planned, for the images whose plan leaves some of the box out."""
    holed = [i for i in contents.layout.images if i.frames_planned not in (None, i.planes)]
    if not holed or not contents.sequence:
        return {}
    from useq import MDASequence

    scope = Scope.from_summary(contents.summary_metadata)
    plans = {
        plan.image_index: plan
        for plan in planned_images(MDASequence.model_validate(contents.sequence), scope)
    }
    found = {}
    for image in holed:
        index = tuple(sorted((a, i) for a, i in image.index.items() if a != "cam"))
        plan = next((p for k, p in plans.items() if tuple(sorted(k)) == index), None)
        if plan is not None and plan.indices is not None:
            found[image.key] = _as_mask(image, plan)
    return found


def _as_mask(image: ImageLayout, plan: PlannedImage) -> np.ndarray:
    """Return the planned places; each one of a channel counts for all cameras side by side."""
    own = image.index.get("cam")
    if own is not None:
        plan = of_camera(plan, own)
    labels = [""] * (image.sizes.get("c", 1) // plan.sizes.get("c", 1))
    _, places = side_by_side(plan, CameraChannels(labels, plan.cameras))
    mask = np.zeros(tuple(image.sizes.values()), bool)
    mask[tuple(np.array(list(places)).T) if places else ...] = True
    return mask
