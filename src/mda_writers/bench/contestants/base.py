"""What a contestant is: a name, what it keeps, and how it writes the camera's frames."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mda_writers.bench.frames import Camera


@dataclass(frozen=True, slots=True)
class Job:
    """The work, the same for everyone.

    Parameters
    ----------
    path
        An empty folder, all of the contestant's own.
    frames
        The camera: iterate over it once.
    n
        How many frames are planned; the camera may stop earlier.
    shape, dtype
        Of each frame.
    metadata
        Called with a frame's index it returns the frame's metadata.
    """

    path: Path
    frames: Camera
    n: int
    shape: tuple[int, int]
    dtype: str
    metadata: Callable[[int], dict[str, Any]]

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


class Contestant:
    """One way to write frames.

    A subclass names itself and the modules it needs, and fills in `run` and `read`. Its set-up
    that has nothing to do with writing (loading a camera's configuration) goes into `prepare`,
    which nobody measures.
    """

    name: str
    label: str
    keeps_metadata: bool = False
    ours: bool = False
    lossy: bool = False
    own_camera: ClassVar[bool] = False
    needs: tuple[str, ...] = ()

    def available(self) -> str | None:
        """Import what is needed, and return None, or the reason why it cannot be."""
        try:
            for module in self.needs:
                # A peer may warn about its own future when it is imported; that is its concern.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    import_module(module)
        except ImportError as error:
            return str(error)
        return None

    def prepare(self, job: Job) -> None:
        """Do what an acquisition would have done before it begins to write."""

    def run(self, job: Job) -> None:
        """Write every frame of `job` with its metadata, and close."""
        raise NotImplementedError

    def read(self, path: Path, index: int) -> NDArray[Any] | None:
        """Return the frame at `index` as a stock reader sees it, or None without a reader."""
        return None


def read_tiff(path: Path, index: int) -> NDArray[Any]:
    """Return one page of a TIFF as tifffile reads it."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return np.asarray(tiff.pages[index].asarray())


def read_zarr(path: Path, index: int) -> NDArray[Any]:
    """Return one frame of a Zarr array as zarr-python reads it."""
    import zarr

    return np.asarray(zarr.open_array(path, mode="r")[index])
