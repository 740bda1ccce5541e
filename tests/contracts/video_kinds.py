"""Lossless video in its containers, each with stock readers, for the contracts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from contracts.kind import Kind
from mda_writers import CV2Writer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_AS_GIVEN = {"bgr0": "rgb24", "gbrp16le": "rgb48le"}


class LosslessWriter(CV2Writer):
    """With FFV1."""

    def __init__(self, filename: Any, **options: Any) -> None:
        super().__init__(filename, fourcc="FFV1", **options)


class Mkv(Kind):
    """``CV2Writer`` with FFV1 in Matroska, read by FFmpeg."""

    writer_class = LosslessWriter
    file_name = "exp.mkv"

    def reader(self, folder: Path) -> Any:
        videos: dict[str, list[np.ndarray]] = {}

        def read(ours: Mapping[str, Any]) -> np.ndarray:
            if ours["file"] not in videos:
                videos[ours["file"]] = decode_all(folder / ours["file"])
            return videos[ours["file"]][ours["frame"]]

        return read

    def check_opens(self, folder: Path, file: str) -> None:
        """OpenCV, which converts to 8 bits, has to see the same frames."""
        video = cv2.VideoCapture(str(folder / file))
        frames = decode_all(folder / file)
        for frame in frames:
            ok, seen = video.read()
            assert ok and seen.shape[:2] == frame.shape[:2]
        assert not video.read()[0]
        video.release()


class Mp4(Mkv):
    """In MP4."""

    file_name = "exp.mp4"


class Avi(Mkv):
    """In AVI."""

    file_name = "exp.avi"


def decode_all(path: Path) -> list[np.ndarray]:
    """Return every frame of a video, as FFmpeg decodes it."""
    with av.open(str(path), "r") as file:
        own = file.streams.video[0].pix_fmt
        assert own is not None
        frames = []
        # a kill may cut the piece that was being written; whoever plays the file sees all before
        with suppress(av.error.InvalidDataError):
            for frame in file.decode(video=0):
                frames.append(frame.to_ndarray(format=_AS_GIVEN.get(own, own)))
        return frames
