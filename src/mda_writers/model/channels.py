"""The channels of one image: each optical configuration once for every camera in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mda_writers.model.layout import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def image_channels(
    configurations: Mapping[int, tuple[str, str]], count: int, cameras: Sequence[str]
) -> tuple[Channel, ...]:
    """Return `count` channels, cameras side by side: ``FITC:Camera-1``, ``FITC:Camera-2``, ….

    Parameters
    ----------
    configurations : mapping of int to (str, str)
        An event's ``index["c"]`` → the name and the group of what it is taken with, as far as
        they are known.
    count : int
        The size of the image's axis c.
    cameras : sequence of str
        The labels of the image's cameras.
    """
    return tuple(
        _channel(*configurations.get(n // len(cameras), ("", "")), n % len(cameras), cameras)
        for n in range(count)
    )


def _channel(config: str, group: str, number: int, cameras: Sequence[str]) -> Channel:
    camera = cameras[number]
    if len(cameras) == 1:
        return Channel(config, group, camera)
    return Channel(f"{config}:{camera}" if config else camera, group, camera)
