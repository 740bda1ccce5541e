"""Every plan, read back by `open_dataset`: a frame is found at the index of its event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mda_writers import (
    BigTiffWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    WriteError,
    open_dataset,
    record,
)
from plans import (
    PLANS,
    REPEATING_PLANS,
    Plan,
    engine_for,
    expected_indices,
    expected_stamps,
    plans_named,
)
from stamps import check_stamp

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from mda_writers import Dataset

pytestmark = pytest.mark.usefixtures("no_thread_left")


def without_repetitions(plan: Plan) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Return (index, stamp) of the frames, and ``repeat`` in the index of those taken again."""
    seen: dict[frozenset[tuple[str, int]], int] = {}
    found = []
    for index, stamp in zip(expected_indices(plan), expected_stamps(plan), strict=True):
        place = frozenset(index.items())
        times = seen[place] = seen.get(place, -1) + 1
        # events without any index follow one another in time
        named = {"t": times, **index} if not index.keys() - {"cam"} else index
        again = {"repeat": times} if times and named is index else {}
        found.append(({"t": 0, "c": 0, "z": 0, **named, **again}, stamp))
    return found


def check_all_frames(dataset: Dataset, plan: Plan) -> None:
    frames = without_repetitions(plan)
    for index, stamp in frames:
        check_stamp(dataset.read_image(**index), stamp)
        metadata = dataset.read_metadata(**index)
        recorded = metadata["mda_writers"]["index"]
        assert recorded == {axis: index[axis] for axis in recorded}
        assert dataset.has_image(**index)
    assert len(dataset.image_coordinates) == len(frames)
    pictures = {dataset.read_image(**each).tobytes() for each in dataset.image_coordinates}
    assert len(pictures) == len(frames)


def check_as_array(dataset: Dataset) -> None:
    """Compare the whole array with the frames one by one; what is missing reads 77."""
    if dataset.dtype.kind == "f" or len({i.frame_shape for i in dataset._images}) > 1:
        return
    array = dataset.as_array(fill_value=77)
    assert array.shape == dataset.shape
    pixels = array.compute(scheduler="synchronous")
    there = np.zeros(array.shape[: len(dataset.axes)], bool)
    for coords in dataset.image_coordinates:
        where = tuple(dataset.axes[axis].index(value) for axis, value in coords.items())
        np.testing.assert_array_equal(pixels[where], dataset.read_image(**coords))
        assert not there[where]
        there[where] = True
    assert (pixels[~there] == 77).all()


class WatchedWriter(BigTiffWriter):
    """Has itself read by its journal just before that is replaced, as after a kill."""

    plan: Plan
    missing: list[dict[str, Any]]

    def finalize_metadata(self) -> None:
        with open_dataset(self.path) as dataset:
            assert not dataset.complete
            check_all_frames(dataset, self.plan)
            self.missing = dataset.missing
        super().finalize_metadata()


def as_set(missing: list[dict[str, Any]]) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(each.items()) for each in missing}


@pytest.mark.sample(4)
@pytest.mark.parametrize("plan", PLANS + REPEATING_PLANS, ids=str)
def test_every_frame_is_found_at_the_index_of_its_event(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    path = tmp_path / "exp.ome.tif"
    if plan.name == "no_events":
        with pytest.raises(WriteError):
            record(core, plan.events(), BigTiffWriter(path), progress=False)
        return
    writer = WatchedWriter(path)
    writer.plan = plan
    (report,) = record(core, plan.events(), writer, progress=False)
    with open_dataset(path) as dataset:
        if "skipped" not in plan.name:  # a position without any frame has no image at the end
            assert as_set(writer.missing) == as_set(dataset.missing)
        assert dataset.complete == report.complete
        check_all_frames(dataset, plan)
        if expected_indices(plan):
            check_as_array(dataset)
        for index in dataset.missing:
            assert not dataset.has_image(**index)


A_HANDFUL = plans_named(
    "order_czgpt",
    "ragged_in_everything",
    "queue_growing_in_odd_order",
    "two_cameras_on_ragged_positions",
    "rgb_with_two_cameras",
    "odd_frame_size",
)


@pytest.mark.parametrize("writer", ["ome-zarr 0.5", "ome-zarr 0.4", "zlib", "series", "video"])
@pytest.mark.parametrize("plan", A_HANDFUL, ids=str)
def test_every_format_is_read_by_the_index_of_the_event(
    plan: Plan, writer: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    made = {
        "ome-zarr 0.5": lambda: OMEZarrWriter(tmp_path / "exp.ome.zarr", levels=2),
        "ome-zarr 0.4": lambda: OMEZarrWriter(
            tmp_path / "exp.zarr", ngff_version="0.4", compression="zstd"
        ),
        "zlib": lambda: BigTiffWriter(tmp_path / "exp.ome.tif", compression="zlib"),
        "series": lambda: TiffSeriesWriter(tmp_path / "exp"),
        "video": lambda: CV2Writer(tmp_path / "exp.mkv", fourcc="FFV1"),
    }[writer]()
    record(core, plan.events(), made, progress=False)
    with open_dataset(made.path) as dataset:
        check_all_frames(dataset, plan)
        check_as_array(dataset)
