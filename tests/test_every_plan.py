"""Every plan × every format: whatever useq can express is saved as it was acquired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import tifffile

from contracts.identity import IdentityContract
from contracts.kind import BigTiff, on_record
from contracts.video_kinds import Mkv
from contracts.zarr_kinds import OmeZarr
from mda_writers import CV2Writer, TiffSeriesWriter, record, verify
from plans import Plan, engine_for, plans_named

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


class TestBigTiff(BigTiff, IdentityContract):
    """OME-TIFF, read by tifffile."""


class TestCompressedTiff(BigTiff, IdentityContract):
    """Compressed OME-TIFF, read by tifffile."""

    def options(self, plan: Plan) -> dict[str, Any]:
        return {"compression": "zlib"}


class TestTiffSeries(BigTiff, IdentityContract):
    """A file a stack, for ImageJ where ImageJ knows the pixels, read by tifffile."""

    writer_class = TiffSeriesWriter
    file_name = "run_000"

    def make_writer(self, folder: Path, **options: Any) -> TiffSeriesWriter:
        return TiffSeriesWriter(folder, **options)

    def options(self, plan: Plan) -> dict[str, Any]:
        return {"ome": plan.name in ("rgb_16_bit", "32_bit", "float_64")}

    def check_opens(self, folder: Path, file: str) -> None:
        with tifffile.TiffFile(folder / file) as tif:
            assert tif.is_imagej or tif.is_ome
            assert len(tif.series) == 1


ZARR_OPTIONS: dict[str, dict[str, Any]] = {
    "compressed_with_lz4": {"compression": "blosc-lz4"},
    "compressed_with_zstd_in_tiles": {"compression": "zstd", "chunks": {"y": 10, "x": 16}},
    "tiles_that_stick_out": {"chunks": {"y": 10, "x": 20}},
    "small_shards": {"shards": {"t": 2, "z": 2, "c": 3}},
    "one_frame_a_shard": {"shards": {"t": 1, "z": 1, "c": 1}},
    "pyramid": {"levels": 3},
    "compressed_pyramid": {"levels": 2, "compression": "blosc-zstd"},
    "ngff_04": {"ngff_version": "0.4"},
    "ngff_04_compressed_pyramid": {
        "ngff_version": "0.4",
        "compression": "blosc-zstd",
        "levels": 2,
        "chunks": {"x": 16},
    },
}


class TestOmeZarr(OmeZarr, IdentityContract):
    """OME-Zarr, read by zarr-python and by tensorstore."""

    @pytest.mark.sample(5)
    @pytest.mark.parametrize("options", ZARR_OPTIONS.values(), ids=ZARR_OPTIONS)
    @pytest.mark.parametrize(
        "plan",
        plans_named(
            "order_czgpt",
            "order_zcpt",
            "do_stack_false",
            "ragged_in_everything",
            "wells_with_a_grid_of_fields",
            "queue_growing_in_odd_order",
            "events_with_large_indices",
            "skipped_by_number",
            "names_in_unicode",
            "cameras_of_other_sizes",
            "two_cameras_on_a_list_of_events",
            "rgb_with_two_cameras",
            "float_64",
            "odd_frame_size",
            "repeating_events_in_a_list",
        ),
        ids=str,
    )
    def test_a_plan_is_the_same_however_it_is_stored(
        self, plan: Plan, options: dict[str, Any], core: CMMCorePlus, tmp_path: Path
    ) -> None:
        self.check_plan(plan, core, tmp_path, **options)


class TestVideo(Mkv, IdentityContract):
    """Lossless video, decoded by FFmpeg."""

    refuses = dict.fromkeys(("32_bit", "float_32", "float_64"), "lossless for up to 16 bits")

    def as_acquired(self, pixels: np.ndarray, plan: Plan) -> np.ndarray:
        if np.dtype(plan.dtype).kind != "i":
            return pixels
        # a video has no negative values: signed ones were moved up
        return (pixels.astype(np.int64) + np.iinfo(plan.dtype).min).astype(plan.dtype)

    def check_acquired(self, plan: Plan, folder: Path) -> None:
        super().check_acquired(plan, folder)
        assert verify(folder / self.file_name, progress=False).intact


# what a container does with frames does not depend on the plan
@pytest.mark.parametrize(
    "plan",
    plans_named("order_tpcz", "two_cameras", "rgb", "float_32", "many_positions"),
    ids=str,
)
def test_an_mp4_of_any_plan_has_all_frames_in_order(
    plan: Plan, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(engine_for(plan, core))
    (report,) = record(core, plan.events(), CV2Writer(tmp_path / "exp.mp4"), progress=False)
    assert report.complete, report
    frames = [frame.ours for frame in on_record(tmp_path / "exp.mp4")]
    videos = {path.name: path for path in tmp_path.glob("*.mp4")}
    assert videos.keys() == {frame["file"] for frame in frames}
    for name, path in videos.items():
        numbers = [frame["frame"] for frame in frames if frame["file"] == name]
        assert numbers == list(range(len(numbers)))
        with av.open(str(path)) as video:
            decoded = list(video.decode(video=0))
        assert len(decoded) == len(numbers)
        assert (decoded[0].height, decoded[0].width) == plan.frame_shape[:2]
