"""The plan of a recording, made again from what its header says."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import useq
from pydantic import TypeAdapter, ValidationError

from mda_writers.model.locate import Locator
from mda_writers.model.plan import PlannedImage
from mda_writers.model.scope import Camera, Scope
from mda_writers.writers.direct import DirectPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PLANNED = "planned_images"
"""The header's entry for a plan that neither a sequence nor ``begin`` describes."""

CAMERAS = "planned_cameras"
"""The cameras of such a plan, where each has images of its own."""


def locator_of(header: Mapping[str, Any], file_name: str) -> Locator:
    """Return the locator that a recording began with.

    Parameters
    ----------
    header : mapping
        Of its journal or its ``_recording.json``.
    file_name : str
        The name of its file.
    """
    if PLANNED in header:
        planned = _PLANNED.validate_python(header[PLANNED])
        cameras = _CAMERAS.validate_python(header.get(CAMERAS, ()))
        return Locator(planned, Scope(cameras=tuple(cameras) or (Camera(""),)), file_name)
    direct = header.get("direct")
    if direct is not None:
        names = tuple(direct["channels"])
        plan = DirectPlan(
            1, 1, None, None, direct["sizes"], names, None, None, None, direct["camera"]
        )
        return plan.locator(file_name)
    scope = Scope.from_summary(header.get("summary_metadata") or {})
    sequence = sequence_of(header)
    if sequence is None:
        return Locator([], scope, file_name)
    return Locator.of_sequence(sequence, scope, file_name)


def sequence_of(header: Mapping[str, Any]) -> useq.MDASequence | None:
    """Return the sequence of a recording; None where there was none of known length."""
    if header.get("sequence") is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # useq said what it thinks of the plan at its time
            return useq.MDASequence.model_validate(header["sequence"])
    except ValidationError:
        # written by another useq: the frames are worth more than the list of missing ones
        return None


def planned_entry(images: Iterable[PlannedImage], cameras: Iterable[Camera] = ()) -> dict[str, Any]:
    """Return a plan as entries of a header."""
    return {
        PLANNED: [asdict(image) for image in images],
        CAMERAS: [asdict(camera) for camera in cameras],
    }


_PLANNED = TypeAdapter(list[PlannedImage])
_CAMERAS = TypeAdapter(list[Camera])
