"""A red square is red, whoever gave it and whoever looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
import tifffile
import useq
import zarr

from engine import StampedEngine
from mda_writers import (
    Acquisition,
    BigTiffWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    convert,
    open_dataset,
    record,
    verify,
)
from mda_writers.formats.video.reader import VideoReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from mda_writers.writers.base import MDAWriter

pytestmark = pytest.mark.usefixtures("no_thread_left")

RED_RGB = np.zeros((64, 96, 3), np.uint8)
RED_RGB[16:48, 16:64, 0] = 200
RED_BGR = np.ascontiguousarray(RED_RGB[..., ::-1])
RED = {"RGB": RED_RGB, "BGR": RED_BGR}

VIDEOS = [("H264", ".mp4"), ("FFV1", ".mkv"), ("MJPG", ".avi")]
ARRAYS: list[Callable[[Path], MDAWriter]] = [
    lambda folder: BigTiffWriter(folder / "exp.ome.tiff"),
    lambda folder: BigTiffWriter(folder / "exp.tif", compression="zlib"),
    lambda folder: OMEZarrWriter(folder / "exp.ome.zarr"),
    lambda folder: OMEZarrWriter(folder / "exp.ome.zarr", ngff_version="0.4"),
    lambda folder: TiffSeriesWriter(folder / "exp", ome=True),
]


def by_stock_readers(folder: Path) -> dict[str, np.ndarray]:
    """Return the first frame of everything in `folder`, in RGB, by the libraries people use."""
    seen: dict[str, np.ndarray] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".mp4", ".mkv", ".avi"):
            ok, bgr = cv2.VideoCapture(str(file)).read()
            assert ok
            seen["cv2"] = bgr[..., ::-1]
            with av.open(str(file), "r") as video:
                seen["av"] = next(iter(video.decode(video=0))).to_ndarray(format="rgb24")
        if file.suffix in (".tif", ".tiff"):
            with tifffile.TiffFile(file) as tif:
                assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
                seen["tifffile"] = tif.pages[0].asarray()
        if file.name.endswith(".ome.zarr"):
            stored = zarr.open_group(file, mode="r")["0"]
            seen["zarr"] = np.moveaxis(np.asarray(stored[0]).reshape(3, 64, 96), 0, -1)
    assert seen
    return seen


def check_red(folder: Path, path: Any) -> None:
    for name, pixels in by_stock_readers(folder).items():
        assert np.abs(pixels.astype(int) - RED_RGB).mean() < 8, name
    with open_dataset(path) as dataset:
        assert np.abs(dataset.read_image(t=0).astype(int) - RED_RGB).mean() < 8
    assert verify(path).ok


def polled(writer: MDAWriter, pixels: np.ndarray, **options: Any) -> Any:
    writer.begin(96, 64, is_color=True, **options)
    for _ in range(3):
        writer.add_frame(pixels)
    return writer.finish()


@pytest.mark.parametrize(("fourcc", "suffix"), VIDEOS)
@pytest.mark.parametrize("given", ["by default", "to the writer", "to begin"])
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_what_opencv_reads_is_red_in_a_video(
    order: str, given: str, fourcc: str, suffix: str, tmp_path: Path
) -> None:
    if given == "by default" and order == "RGB":
        pytest.skip("BGR is the default, as of cv2.VideoWriter")
    said = {"color_order": order}
    path = tmp_path / f"film{suffix}"
    writer = CV2Writer(path, fourcc=fourcc, **said if given == "to the writer" else {})
    report = polled(writer, RED[order], **said if given == "to begin" else {})
    assert report.complete
    check_red(tmp_path, path)
    with VideoReader(path) as reader:
        assert reader.about["color_order"] == order
        assert np.abs(reader.read(0, original=True).astype(int) - RED[order]).mean() < 8


@pytest.mark.parametrize("make", ARRAYS, ids=["tiff", "zlib", "zarr", "zarr-0.4", "series"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_files_of_images_hold_rgb(
    dtype: str, order: str, make: Callable[[Path], MDAWriter], tmp_path: Path
) -> None:
    options = {"color_order": "BGR"} if order == "BGR" else {}
    report = polled(make(tmp_path), RED[order].astype(dtype), **options)
    assert report.complete
    check_red(tmp_path, report.path)
    with open_dataset(report.path) as dataset:
        assert (dataset.read_image(t=2) == RED_RGB).all()


class RedEngine(StampedEngine):
    """A colour camera that sees a red square; in RGB, as pymmcore-plus hands it out."""

    def exec_event(self, event: useq.MDAEvent) -> Any:
        for payload in super().exec_event(event):
            yield (RED_RGB.copy(), *payload[1:])


@pytest.mark.parametrize(("fourcc", "suffix"), VIDEOS)
def test_frames_of_an_acquisition_stay_rgb(
    fourcc: str, suffix: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(RedEngine(core, frame_shape=(64, 96, 3), dtype="uint8"))
    sequence = useq.MDASequence(time_plan=useq.TIntervalLoops(interval=0, loops=2))
    writer = CV2Writer(tmp_path / f"film{suffix}", fourcc=fourcc)
    polled(writer, RED_BGR)  # the same writer, for a camera of its own: the next run is not BGR
    record(core, sequence, writer, progress=False)
    for name in ("film", "film_1"):
        check_red(tmp_path, tmp_path / f"{name}{suffix}")


@pytest.mark.parametrize("target", [".ome.tiff", ".ome.zarr", ".mkv", ".mp4"])
@pytest.mark.parametrize("source", [".mkv", ".mp4", ".ome.tiff"])
def test_a_red_square_stays_red_when_it_is_converted(
    source: str, target: str, tmp_path: Path
) -> None:
    path = tmp_path / "source" / f"film{source}"
    make = BigTiffWriter if source == ".ome.tiff" else CV2Writer
    polled(make(path), RED_BGR, color_order="BGR")
    convert(path, tmp_path / "out" / f"film{target}", progress=False)
    check_red(tmp_path / "out", tmp_path / "out" / f"film{target}")


def test_polled_cameras_of_a_session_are_red(tmp_path: Path) -> None:
    with Acquisition(tmp_path, subject=1, session=1, task="x") as acq:
        writer = acq.writer("pupil", ".mp4", direct=True)
        report = polled(writer, RED_BGR)
    check_red(tmp_path, report.path)


@pytest.mark.parametrize("order", ["GBR", "rgb", 1])
def test_an_unknown_order_of_colours_is_refused(order: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of RGB, BGR"):
        CV2Writer(tmp_path / "film.mp4", color_order=order)
    with pytest.raises(ValueError, match="one of RGB, BGR"):
        polled(BigTiffWriter(tmp_path / "a.ome.tiff"), RED_RGB, color_order=order)
    assert not list(tmp_path.iterdir())
