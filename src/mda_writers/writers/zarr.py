"""The writer of OME-Zarr."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from mda_writers.errors import WriteError
from mda_writers.formats.zarr.format import OmeZarrFormat
from mda_writers.formats.zarr.options import Compression, ZarrOptions
from mda_writers.model.names import by_well, describe_plate, numbered
from mda_writers.storage.object_path import ObjectPath
from mda_writers.writers.base import MDAWriter, finish_first_at_exit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mda_writers.model.layout import Layout
    from mda_writers.model.locate import Locator


class OMEZarrWriter(MDAWriter):
    """Saves a recording as OME-Zarr: one folder, laid out before the first frame.

    A recording of one image is that image; several lie numbered in the folder, in the
    bioformats2raw layout, and those of a ``WellPlatePlan`` as plate, wells and fields.
    Uncompressed, frames go round the page cache into Zarr v3 shards whose indices are complete
    from the start: the folder can be opened at any moment, also after a kill.

    Parameters
    ----------
    store : path-like or URL
        Where the recording goes: a name that ends with ``.zarr``, such as ``exp.ome.zarr``, or
        the URL of one in an object store, such as ``s3://bucket/exp.ome.zarr`` (extra ``s3``).
        Of a URL, the journal, the sidecar and the report lie in the current folder.
    ngff_version : {"0.5", "0.4"}
        0.5 is Zarr v3 with shards. 0.4 is Zarr v2, for readers that need it: a file per frame.
    compression : {None, "blosc-lz4", "blosc-zstd", "zstd"}
        How chunks are compressed, on several threads. lz4 is the fastest, zstd the smallest.
    compression_level : int, optional
        1 by default; higher levels take much longer and gain little on camera frames.
    shuffle : {"bit", "byte", "none"}, optional
        Order of the bytes before blosc; by default the best for the codec.
    levels : int or "auto"
        Levels of the pyramid, each half as large in y and x as the one before: every pixel the
        mean of 2 × 2, rounded to the nearest (halves upwards). ``"auto"`` until one fits into
        256 × 256. Computed while frames come.
    z_factor : int
        Planes along z that become one from each level to the next: 1 leaves z as it is, 2 is usual,
        any power of two up to 64 is possible. A pixel is then the mean of ``z_factor`` × 2 × 2,
        rounded once, over those planes that were taken. Computed at the end.
    chunks : mapping, optional
        Size of a chunk along ``y`` and ``x``; by default a chunk is a whole plane.
    shards : mapping, optional
        Planes of a shard along ``t``, ``c`` and ``z``; by default as many as make half a GiB, at
        most 1024, in the order of acquisition. Object stores have none.
    storage_options : mapping, optional
        For the object store: what fsspec's file system of that protocol takes (credentials,
        endpoint). Never written down.
    **options
        Those of `MDAWriter`.

    Raises
    ------
    ValueError
        If an option or the suffix is not possible; the text lists what is.
    FileExistsError
        If there is a recording of that name and ``overwrite`` is False.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".ome.zarr", ".zarr")

    def __init__(
        self,
        store: str | Path,
        *,
        ngff_version: str = "0.5",
        compression: str | None = None,
        compression_level: int | None = None,
        shuffle: str | None = None,
        levels: int | str = 1,
        z_factor: int = 1,
        chunks: Mapping[str, int] | None = None,
        shards: Mapping[str, int] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        # here, and not at the first frame: it takes a quarter of a second, in which frames pile up
        import zarr  # noqa: F401

        # at the exit zarr stops its threads, which a recording still needs for its end
        finish_first_at_exit()
        compressed = Compression.parse(compression, compression_level, shuffle)
        self._options = ZarrOptions.parse(
            ngff_version, compressed, levels, z_factor, chunks, shards
        )
        self._storage_options = dict(storage_options or {})
        self._folder_url, name = _folder_and_name(store)
        self._name = ""
        if self._folder_url and shards:
            raise ValueError("shards: object stores have none; every chunk is an object.")
        if self._storage_options and not self._folder_url:
            raise ValueError("storage_options: only for a URL such as s3://bucket/exp.ome.zarr.")
        super().__init__(name, **options)
        if self._folder_url and not self._overwrite and self._is_taken(self.path.name):
            raise FileExistsError(
                f"{self._folder_url}/{self.path.name}: exists. Choose another name, or pass "
                "overwrite=True to replace it."
            )

    @property
    def _place(self) -> object:
        return f"{self._folder_url}/{self.path.name}" if self._folder_url else super()._place

    def format(self, set_id: str) -> OmeZarrFormat:
        """Return how the files of a recording begin, and get their final form."""
        if not self._folder_url:
            return OmeZarrFormat(self._options)
        from mda_writers.formats.zarr.objects import OmeZarrObjects

        return OmeZarrObjects(self._options, self._root(self._name))

    def _root(self, name: str) -> ObjectPath:
        return ObjectPath.of_url(f"{self._folder_url}/{name}", self._storage_options)

    def _is_taken(self, name: str) -> bool:
        """Return whether the object store has something of that name."""
        root = self._root(name)
        return any((root / file).exists() for file in ("zarr.json", ".zgroup"))

    def _make_room(self, name: str) -> None:
        """See to it that the object store has nothing of that name; replace what may be."""
        if self._overwrite and self._runs == 0:
            self._root(name).remove()
        elif self._is_taken(name):
            raise WriteError(
                f"{self._folder_url}/{name}: exists, and belongs to another recording. It was "
                "not touched; choose another name."
            )

    def _begin_run(self, locator: Locator, layout: Layout, header: Mapping[str, Any]) -> None:
        """Choose the folders of the images before the run begins."""
        sequence = self.current_sequence
        plate = describe_plate(sequence) if sequence is not None else {}
        name = self._next_path().name
        if plate:
            locator.put_files(by_well(name, plate))
        elif len(locator.images) > 1 or (locator.open_ended and sequence is not None):
            # a list of events may yet name other positions; a camera's own loop hardly will
            locator.put_files(numbered(name))
        header = {**header, **self._options.header}
        if self._folder_url:
            self._name = name
            header["url"] = f"{self._folder_url}/{name}"
            self._make_room(name)
        super()._begin_run(locator, replace(layout, plate=plate), header)


def _folder_and_name(store: str | Path) -> tuple[str, str | Path]:
    """Return where in an object store the recording goes, and its name; "" for a path."""
    if "://" not in str(store):
        return "", store
    folder, _, name = str(store).rstrip("/").rpartition("/")
    return folder, name
