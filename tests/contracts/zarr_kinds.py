"""OME-Zarr in its forms, each with stock readers, for the contracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from contracts.kind import Kind
from mda_writers import OMEZarrWriter
from mda_writers.formats.zarr.shards import box_of, read_index, shard_path
from zarr_reading import read_with_tensorstore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class CompressedWriter(OMEZarrWriter):
    """With lz4, and two levels."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, compression="blosc-lz4", levels=2, **options)


class Writer04(OMEZarrWriter):
    """As NGFF 0.4."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, ngff_version="0.4", **options)


class WriterInZ(OMEZarrWriter):
    """With levels that are smaller along z, too."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, levels=3, z_factor=2, **options)


class OmeZarr(Kind):
    """``OMEZarrWriter``, read by zarr-python."""

    writer_class = OMEZarrWriter
    file_name = "exp.ome.zarr"

    def reader(self, folder: Path) -> Any:
        arrays: dict[str, np.ndarray] = {}

        def read(ours: Mapping[str, Any]) -> np.ndarray:
            name = f"{ours['file']}/{ours['array']}"
            if name not in arrays:
                # all of it: a chunk that cannot be read, wherever it is, is a failure
                arrays[name] = np.asarray(zarr.open_array(folder / name, mode="r")[...])
            planes = [arrays[name][tuple(place)] for place in ours["planes"]]
            return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)

        return read

    def check_opens(self, folder: Path, file: str) -> None:
        group = zarr.open_group(folder / file, mode="r")
        attributes = dict(group.attrs)
        attributes = attributes.get("ome", attributes)
        for dataset in attributes["multiscales"][0]["datasets"]:
            level = folder / file / dataset["path"]
            assert np.array_equal(
                zarr.open_array(level, mode="r")[...], read_with_tensorstore(level)
            )

    def pixel_byte(self, folder: Path, ours: Mapping[str, Any], byte: int) -> tuple[Path, int]:
        array = folder / ours["file"] / ours["array"]
        box, tiles = box_of(array)
        place = ours["planes"][0]
        shard = shard_path(array, tuple(i // n for i, n in zip(place, box, strict=True)))
        number = int(np.ravel_multi_index([i % n for i, n in zip(place, box, strict=True)], box))
        return shard, int(read_index(shard, int(np.prod(box)) * tiles)[number * tiles, 0]) + byte


class OmeZarrCompressed(OmeZarr):
    """Compressed, with a pyramid."""

    writer_class = CompressedWriter


class OmeZarr04(OmeZarr):
    """NGFF 0.4: a file a chunk."""

    writer_class = Writer04


class OmeZarrInZ(OmeZarr):
    """Levels along z: those of a recording of open length are made at its end."""

    writer_class = WriterInZ
