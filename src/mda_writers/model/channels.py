"""The channels of one image: each optical configuration once for every camera that takes it."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from mda_writers.model.layout import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class CameraChannels:
    """Which channel of the events, and which camera, lies where along an image's axis c.

    Cameras lie side by side: ``FITC:Camera-1``, ``FITC:Camera-2``, ….

    Parameters
    ----------
    labels : sequence of str
        The cameras that take every channel, where `own` does not say otherwise.
    own : mapping of int to sequence of str
        An event's ``index["c"]`` → the cameras that take this channel, where they differ from
        channel to channel; empty, or complete.
    """

    def __init__(self, labels: Sequence[str], own: Mapping[int, Sequence[str]]) -> None:
        self._labels = labels
        self._own = {c: own[c] for c in sorted(own)}
        ends = list(accumulate(len(cameras) for cameras in self._own.values()))
        self._starts = dict(zip(self._own, [0, *ends], strict=False))
        self._places = [(c, cam) for c, cameras in self._own.items() for cam in range(len(cameras))]
        self.cameras = len(labels)
        self.several = max(map(len, own.values()), default=len(labels)) > 1
        self.plain = not self._own and len(labels) == 1
        """Whether a place along c is simply the event's c."""

    def takes(self, c: int, camera: int) -> bool:
        """Whether camera number `camera` takes channel `c`; of unknown channels, nobody knows."""
        return camera < len(self._own.get(c, self._labels))

    def place(self, c: int, camera: int) -> int:
        """Return the place of a channel and a camera; it may lie outside of what is known."""
        if self._own:
            return self._starts.get(c, len(self._places)) + camera
        return c * len(self._labels) + camera

    def label(self, c: int, camera: int) -> str:
        """Return what a camera is called as long as its frames did not say it."""
        return self._own.get(c, self._labels)[camera]

    def at(self, place: int) -> tuple[int, int]:
        """Return the channel and the camera of a place: the reverse of `place`."""
        return self._places[place] if self._own else divmod(place, len(self._labels))

    def named(
        self,
        configurations: Mapping[int, tuple[str, str]],
        count: int,
        learned: Mapping[tuple[int, int], str],
    ) -> tuple[Channel, ...]:
        """Return the first `count` channels by name.

        Parameters
        ----------
        configurations : mapping of int to (str, str)
            An event's ``index["c"]`` → the name and the group of what it is taken with, as far
            as they are known.
        count : int
            The size of the image's axis c.
        learned : mapping of (int, int) to str
            Channel and camera → the camera's label, as its frames said.
        """
        return tuple(self._channel(*self.at(n), configurations, learned) for n in range(count))

    def _channel(
        self,
        c: int,
        number: int,
        configurations: Mapping[int, tuple[str, str]],
        learned: Mapping[tuple[int, int], str],
    ) -> Channel:
        config, group = configurations.get(c, ("", ""))
        camera = learned.get((c, number), self.label(c, number))
        if not self.takes(c, 1):
            return Channel(config, group, camera)
        return Channel(f"{config}:{camera}" if config else camera, group, camera, number)


@lru_cache
def by_event_channel(channels: tuple[Channel, ...]) -> list[range]:
    """Return for each channel of the events the places along c that its cameras have."""
    starts = [n for n, channel in enumerate(channels) if channel.cam == 0]
    return [range(n, m) for n, m in zip(starts, [*starts[1:], len(channels)], strict=True)]
