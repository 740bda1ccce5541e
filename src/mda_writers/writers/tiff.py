"""Writers of TIFF: one BigTIFF for each position, or a series of stacks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from mda_writers.errors import WriteError
from mda_writers.formats.tiff.bigtiff import BigTiffFormat
from mda_writers.formats.tiff.compressed import check_codec
from mda_writers.formats.tiff.series import StackKind, TiffSeriesFormat
from mda_writers.model.names import check_open, check_template, check_unique, safe_name
from mda_writers.recording.files import RECORDING_SUFFIX, read_recording
from mda_writers.writers.base import MDAWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mda_writers.model.layout import Layout
    from mda_writers.model.locate import Locator
    from mda_writers.model.names import FileOf


_RUN = re.compile(r"run_(\d+)")


class BigTiffWriter(MDAWriter):
    """Saves a recording as BigTIFF: one file per position, laid out before the first frame.

    ``.ome.tif`` and ``.ome.tiff`` give OME-TIFF, several positions linked as one data set;
    ``.tif`` and ``.tiff`` plain BigTIFF. The common options are those of `MDAWriter`.

    Parameters
    ----------
    filename : path-like
        The file; several positions are written to ``name_<position>.ome.tiff``.
    compression : str, optional
        ``"zlib"``, or with the package imagecodecs ``"zstd"``, ``"lzw"``, ``"lzma"``,
        ``"packbits"``. Planes are then compressed on the writing thread and appended as they
        come, which is far slower than the disk; by default pixels are not compressed.
    **options
        Those of `MDAWriter`.

    Raises
    ------
    ValueError
        If that compression does not work here.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".ome.tif", ".ome.tiff", ".tif", ".tiff")

    def __init__(
        self, filename: str | Path, *, compression: str | None = None, **options: Any
    ) -> None:
        if compression is not None:
            check_codec(compression)
        self._compression = compression
        super().__init__(filename, **options)

    def format(self, set_id: str) -> BigTiffFormat:
        """Return how the files of a recording begin, and get their final form."""
        return BigTiffFormat(set_id, ome=self._is_ome(), compression=self._compression)

    def _is_ome(self) -> bool:
        return ".ome.tif" in self.path.name.lower()


CustomWriter = BigTiffWriter
"""The name under which scripts written for mesofield know it."""


class TiffSeriesWriter(MDAWriter):
    """Saves recordings as series of TIFF files: ``run_000/CH00_000000.tif``, ….

    Each run has a folder of its own in `directory`, numbered on from the highest there is, and in
    it ``Position0``, ``Position1``, … where there are several positions. A file is one z-stack of
    a channel and a time point. Once its last plane is on the disk it is complete, is announced,
    and is never touched again: it may be moved away while the run goes on. A stack that was cut
    short, or whose length nobody planned, is complete at the end of the run.

    Parameters
    ----------
    directory : path-like
        Where the runs' folders go; made if it does not exist.
    template : str
        The files' names, out of ``c``, ``t``, ``p``, ``channel`` and ``position``. That no two
        files get one name is checked before a run begins.
    ome : bool
        Whether the files are OME-TIFF (``.ome.tif``) instead of ImageJ hyperstacks (``.tif``).
    bigtiff : bool, optional
        Whether files are BigTIFF; by default those that a 32-bit TIFF could not hold are. ImageJ
        reads BigTIFF with Bio-Formats.
    on_file : callable, optional
        ``on_file(path)`` is called for every complete file, on the writing thread.
    continue_numbers : bool
        Whether the time points' numbers go on where the last finished run in `directory` ended,
        so that files of all runs can be put into one folder.
    **options
        Those of `MDAWriter`; ``overwrite`` is not needed, a run never takes another's folder.

    Raises
    ------
    ValueError
        If the template cannot give file names.
    NotADirectoryError
        If `directory` is a file.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        template: str = "CH{c:02d}_{t:06d}",
        ome: bool = False,
        bigtiff: bool | None = None,
        on_file: Callable[[Path], object] | None = None,
        continue_numbers: bool = False,
        **options: Any,
    ) -> None:
        check_template(template)
        if "overwrite" in options:
            raise ValueError("TiffSeriesWriter overwrites nothing: each run has a new folder.")
        self.directory = Path(directory).expanduser().absolute()
        if self.directory.exists() and not self.directory.is_dir():
            raise NotADirectoryError(f"{self.directory}: is a file. Name a folder.")
        self._template = template
        self._kind = StackKind(ome, bigtiff)
        self._on_file = on_file
        self._continue_numbers = continue_numbers
        self._first_t = 0
        super().__init__(next_run(self.directory), **options)

    @property
    def paths(self) -> list[Path]:
        """The complete files of the last run, as far as they are still there, and its sidecars."""
        run = self._run
        complete = list(cast("TiffSeriesFormat", run.fmt).complete) if run else []
        others = [path for path in super().paths if path.is_file()]
        return [path for path in complete if path.exists()] + others

    @property
    def _place(self) -> object:
        return self  # each run makes a folder of its own

    def format(self, set_id: str) -> TiffSeriesFormat:
        """Return how the files of a recording begin, and get their final form."""
        return TiffSeriesFormat(self._template, self._kind, self._first_t, self._on_file)

    def _check_suffix(self) -> None:
        """Take any name: a folder has no suffix."""

    def _next_path(self) -> Path:
        return next_run(self.directory)

    def _begin_run(self, locator: Locator, layout: Layout, header: Mapping[str, Any]) -> None:
        """Choose the folders of the images, and see that every file will have its own name."""
        images = locator.images
        only = images[0].index if len(images) == 1 and not locator.open_ended else {}
        locator.put_files(by_position(self._next_path().name, only))
        self._first_t = next_time_point(self.directory) if self._continue_numbers else 0
        try:
            if locator.open_ended:
                check_open(self._template)
            for image in locator.images:
                check_unique(self._template, image, self._first_t)
        except ValueError as error:
            raise WriteError(f"{self.directory}: {error}") from error
        series = {
            "template": self._template,
            "ome": self._kind.ome,
            "bigtiff": self._kind.bigtiff,
            "first_t": self._first_t,
        }
        super()._begin_run(locator, layout, {**header, "series": series})


def next_run(directory: Path) -> Path:
    """Return the folder of the next run: one more than the highest number that anything has."""
    names = [entry.name for entry in directory.iterdir()] if directory.exists() else []
    numbers = [int(match[1]) for name in names if (match := _RUN.match(name))]
    return directory / f"run_{max(numbers, default=-1) + 1:03d}"


def next_time_point(directory: Path) -> int:
    """Return the number behind the last time point of the finished runs in `directory`."""
    ends = [0]
    for report in directory.glob(f"run_*{RECORDING_SUFFIX}"):
        main = report.with_name(report.name.removesuffix(RECORDING_SUFFIX))
        recording, layout, _ = read_recording(main)
        first = recording.get("series", {}).get("first_t", 0)
        ends += [first + image.sizes.get("t", 1) for image in layout.images]
    return max(ends)


def by_position(run: str, only: Mapping[str, int]) -> FileOf:
    """Return a rule that gives every image a folder: ``run/Position0``, ``run/Position1_g0003``.

    The only image of a plan, and frames without any position, lie in the run's folder itself.
    """

    def folder_of(index: Mapping[str, int]) -> str:
        if not index or dict(index) == dict(only):
            return run
        others = [f"_{safe_name(a)}{i:04d}" for a, i in sorted(index.items()) if a != "p"]
        return f"{run}/Position{index.get('p', 0)}{''.join(others)}"

    return folder_of
