"""A part of an OME-Zarr: a recording of its frames alone, where they lie in the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.formats.ome_zarr import OmeZarrFormat
from mda_writers.formats.zarr_array import LaidOutArray, ZarrArray
from mda_writers.formats.zarr_grid import grid_of
from mda_writers.formats.zarr_image import ZarrImage
from mda_writers.formats.zarr_shards import MOST_CHUNKS
from mda_writers.model.names import split_suffix
from mda_writers.writers.ome_zarr import OMEZarrWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mda_writers.formats.zarr_options import ZarrOptions
    from mda_writers.model.layout import ImageLayout

PART_NAME = "part.ome.zarr"
"""What the recording of a part is called, in a folder of its own."""


_JOINED = {
    "chunks", "compression", "compression_level", "levels", "min_free_bytes", "ngff_version",
    "queue_bytes", "shards", "shuffle",
}  # fmt: skip
"""Options with which parts make the whole: the others look at several frames at once."""


def can_be_joined(path: Path, options: Mapping[str, Any]) -> bool:
    """Whether a recording of that name, written with these options, can be made of parts."""
    suffix = split_suffix(path.name)[1].lower()
    return suffix in OMEZarrWriter.suffixes and set(options) <= _JOINED


def frames_a_shard(image: ImageLayout, options: Mapping[str, Any]) -> int:
    """Return how many frames of an image make a shard of its full resolution."""
    chunks, shards = options.get("chunks") or {}, options.get("shards") or {}
    yx = (image.frame_shape[0], image.frame_shape[1])
    sharded = options.get("ngff_version") != "0.4"
    most = MOST_CHUNKS if options.get("compression") else 0
    grid = grid_of(image, yx, chunks, shards, sharded=sharded, most_chunks=most)
    return max(1, grid.planes_a_shard // grid.samples)


class PartWriter(OMEZarrWriter):
    """Writes some frames of a recording: shards without any of them are not made."""

    def format(self, set_id: str) -> OmeZarrFormat:
        """Return how its files begin, and get their final form."""
        return PartFormat(self._options)


class _OnDemand(LaidOutArray):
    """A laid-out array whose shards are made when the first of their frames comes."""

    _claim = False

    def lay_out(self, claim: bool) -> None:
        """Make nothing yet."""
        self._claim = claim

    def put(self, place: tuple[int, ...], chunks: list[np.ndarray]) -> None:
        index, _ = self.grid.shard_of(place)
        if index not in self._files:
            self._files[index] = self.new_shard(index, claim=self._claim)
        super().put(place, chunks)


class PartImage(ZarrImage):
    """An image of which some frames come, and no more than their shards are made."""

    def _kind_of(self, number: int) -> type[ZarrArray]:
        kind = super()._kind_of(number)
        return _OnDemand if kind is LaidOutArray else kind


class PartFormat(OmeZarrFormat):
    """The files of a part: room for the whole is no concern of theirs."""

    image_class = PartImage

    def __init__(self, options: ZarrOptions) -> None:
        super().__init__(options)
        self.claims_room = False
        self.shrinks = True
