"""The locator by itself: what only shows when frames come otherwise than anybody announced."""

from __future__ import annotations

import numpy as np
import pytest
from useq import MDAEvent

from mda_writers.errors import FrameError
from mda_writers.model.frame import Frame
from mda_writers.model.locate import Locator
from mda_writers.model.microscope import Camera, MicroscopeInfo
from mda_writers.model.plan import PlannedImage

TWO_CAMERAS = MicroscopeInfo(cameras=(Camera("left"), Camera("right")))


def frame(shape: tuple[int, ...] = (4, 4), channel: str | None = None, **index: int) -> Frame:
    event = MDAEvent(index={a: i for a, i in index.items() if a != "cam"}, channel=channel)
    return Frame(np.zeros(shape, np.uint16), index, {}, event)


def test_a_camera_with_images_of_its_own_learns_its_channels_in_any_order() -> None:
    locator = Locator([], TWO_CAMERAS, "x.ome.tif")
    for c, name in ((1, "FITC"), (0, "DAPI")):
        locator.locate(frame((4, 4), name, c=c, cam=0))
        locator.locate(frame((6, 6), name, c=c, cam=1))
    own = locator.image(locator.key_of({"c": 0, "cam": 1}))
    assert own.frame_shape == (6, 6)
    assert [channel.name for channel in own.channels] == ["DAPI", "FITC"]


def test_a_camera_that_differs_is_no_longer_missed_where_it_was_planned() -> None:
    planned = PlannedImage((), "p0", {"t": 2, "c": 2}, indices={(0, 0), (0, 1), (1, 0)})
    locator = Locator([planned], TWO_CAMERAS, "x.ome.tif")
    assert locator.frames_expected == 6
    locator.locate(frame(t=0, c=0, cam=0))
    locator.locate(frame((6, 6), t=0, c=0, cam=1))
    assert locator.frames_expected == 6
    left = [{"t": t, "c": c, "cam": cam} for cam in range(2) for t, c in ((0, 0), (0, 1), (1, 0))]
    assert [index for index in left if index not in list(locator.unwritten())] == [
        {"t": 0, "c": 0, "cam": 0},
        {"t": 0, "c": 0, "cam": 1},
    ]
    assert len(list(locator.unwritten())) == 4


def test_nobody_has_an_image_that_no_frame_asked_for() -> None:
    locator = Locator([], MicroscopeInfo(), "x.ome.tif")
    locator.locate(frame(p=0))
    with pytest.raises(KeyError, match="p=1"):
        locator.key_of({"p": 1})


def test_a_planned_frame_that_changes_its_size_is_refused_with_both_sizes() -> None:
    locator = Locator([PlannedImage((), "p0", {"t": 2})], MicroscopeInfo(), "x.ome.tif")
    locator.locate(frame((4, 4), t=0))
    with pytest.raises(FrameError, match=r"\(t=1\) is \(5, 5\) uint16.*\(4, 4\) uint16"):
        locator.locate(frame((5, 5), t=1))
    assert list(locator.unwritten()) == [{"t": 1}]
