"""The plan of images that none has led to: those from elsewhere, and those computed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.batch.stored_plan import planned_entry
from mda_writers.batch.stream import FrameStream
from mda_writers.model.plan import PlannedImage, image_index
from mda_writers.model.scope import Camera

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import ImageLayout, Layout


def new_stream(
    like: Layout,
    images: Iterable[ImageLayout],
    filled: Mapping[str, np.ndarray],
    summary_metadata: Mapping[str, Any],
    frames: Iterator[Frame],
) -> FrameStream:
    """Return a stream of frames that no plan of their own has led to.

    Parameters
    ----------
    like : Layout
        Of a recording that they have everything but the images in common with.
    images, filled
        What is to be planned; see `planned_like`.
    summary_metadata : mapping
        What there is to be said about the whole.
    frames : iterator of Frame
        The frames.
    """
    header = {"summary_metadata": summary_metadata, **planned_like(images, filled)}
    return FrameStream(header, without_images(like), frames)


def without_images(layout: Layout) -> Layout:
    """Return what the images of a layout have in common; a plan brings the images."""
    # a plate is told by the sequence, to the formats that know plates
    return replace(layout, images=(), plate={}, selective=False)


def planned_like(images: Iterable[ImageLayout], filled: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the plan of images that exist, as an entry of a header.

    Parameters
    ----------
    images : iterable of ImageLayout
        The images.
    filled : mapping
        Key → the places that there are frames for, where these are all that was planned.
    """
    known = list(images)
    cameras = _cameras(known)
    return planned_entry(
        (
            PlannedImage(
                image_index(image.index),
                image.name.removesuffix(f"_{cameras[0].label}") if cameras else image.name,
                dict(image.sizes),
                {n: (channel.name, channel.group) for n, channel in enumerate(image.channels)},
                image.position_um,
                _indices(filled.get(image.key)),
                z_step_um=image.z_step_um,
                time_interval_s=image.time_interval_s,
            )
            for image in known
            if not image.index.get("cam")  # the plan is the same for all cameras
        ),
        cameras,
    )


def _cameras(images: list[ImageLayout]) -> list[Camera]:
    """Return the cameras that have images of their own, if all have."""
    own = {image.index["cam"]: image for image in images if "cam" in image.index}
    if sorted(own) != list(range(len(own))) or not all("cam" in i.index for i in images):
        return []
    return [
        Camera(own[n].channels[0].camera, tuple(own[n].frame_shape), own[n].dtype)
        for n in range(len(own))
    ]


def _indices(filled: np.ndarray | None) -> set[tuple[int, ...]] | None:
    if filled is None or filled.all():
        return None
    return {tuple(map(int, place)) for place in np.argwhere(filled)}
