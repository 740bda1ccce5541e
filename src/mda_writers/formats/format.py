"""What a format is, besides the arrays that take its frames: how its files end and are read."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mda_writers.storage.write_pool import WritePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.plane import PlaneInfo


class Format:
    """The files of one recording. A format inherits from this, and says where it differs.

    Attributes
    ----------
    name : str
        What the journal's header calls it.
    claims_room : bool
        Whether the room for a known plan is reserved on the disk before the first frame.
    shrinks : bool
        Whether pixels take less room than they have bytes, nobody knows how much less.
    new_pool : type
        What takes bytes to the disk; one for a recording.
    """

    name: str
    claims_room: bool = True
    shrinks: bool = False
    new_pool: type[Any] = WritePool

    @cached_property
    def failures(self) -> dict[str, Exception]:
        """Files that could not be brought into their final form, and why."""
        return {}

    def new_array(self, path: Path, image: ImageLayout, layout: Layout, pool: Any) -> Any:
        """Begin the file of one image of the recording `layout`; return what takes its frames.

        Not asked of a format whose writer makes its arrays itself.
        """
        raise NotImplementedError

    def disk_bytes(self, image: ImageLayout) -> int:
        """Return the bytes that an image takes."""
        return image.nbytes

    def files_of(self, planes: Sequence[PlaneInfo]) -> tuple[str, ...]:
        """Return the files of an image that has these planes; none where the image is one."""
        return ()

    def final_sizes(self, image: ImageLayout, places: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Return the sizes of what was really taken."""
        raise NotImplementedError

    def finish(
        self,
        folder: Path,
        layout: Layout,
        planes: Mapping[str, Sequence[PlaneInfo]],
        planes_laid_out: Mapping[str, int],
    ) -> dict[str, Any] | None:
        """Bring the files of all images into their final form, each inside of `unfinished`.

        What it returns is kept in the recording's report file.
        """
        raise NotImplementedError

    @contextmanager
    def unfinished(self, file: str) -> Iterator[None]:
        """Keep what goes wrong with one file from the others; `finish_files` raises it then."""
        try:
            yield
        except Exception as error:
            self.failures[file] = error

    def described_files(
        self, folder: Path, image: ImageLayout, planes_laid_out: int, ends: Mapping[str, int]
    ) -> Iterable[tuple[str, Sequence[int]]]:
        """Return the files of a finished image that say more than pixels: they get a seal.

        Parameters
        ----------
        folder : Path
            The recording's.
        image : ImageLayout
            The image.
        planes_laid_out : int
            0 where an array of a user's own made the file.
        ends : mapping
            File → where its last frame ends, where frames lie at an offset.

        Returns
        -------
        iterable of (str, sequence of int)
            Each file, relative to the folder, and where in it pixels begin and end.
        """
        return ()

    def discard(self, path: Path) -> None:
        """Remove the file or folder of an image without frames."""
        raise NotImplementedError

    def damage(self, path: Path, image: ImageLayout) -> str:
        """Return what keeps readers from the frames of an image; nothing if all is well."""
        raise NotImplementedError

    def damaged_level(
        self, path: Path, image: ImageLayout, places: Sequence[tuple[int, ...]]
    ) -> str:
        """Return which smaller level differs from what it was made of; nothing if none does.

        May raise whatever a damaged file makes its reader raise.
        """
        return ""

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        """Return the pixels of the frame that has the additions `ours` in its metadata."""
        raise NotImplementedError
