"""How an OME-Zarr is stored: what a user can choose, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mda_writers.formats.ngff import ZARR_FORMAT
from mda_writers.formats.pyramid import auto_levels, level_depths, level_sizes
from mda_writers.formats.voxel_mean import MOST_PLANES
from mda_writers.formats.zarr_codecs import Compression

if TYPE_CHECKING:
    from mda_writers.model.layout import ImageLayout

_CHUNK_AXES = ("y", "x")
_SHARD_AXES = ("t", "c", "z")


@dataclass(frozen=True, slots=True)
class ZarrOptions:
    """How images are stored; see ``OMEZarrWriter``."""

    version: str = "0.5"
    compression: Compression | None = None
    levels: int | str = 1
    chunks: Mapping[str, int] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    z_factor: int = 1

    @classmethod
    def parse(
        cls,
        version: str,
        compression: Compression | None,
        levels: int | str,
        z_factor: int,
        chunks: Mapping[str, int] | None,
        shards: Mapping[str, int] | None,
    ) -> ZarrOptions:
        """Return the options, checked.

        Raises
        ------
        ValueError
            If one is not possible; the text lists what is.
        """
        if version not in ZARR_FORMAT:
            raise ValueError(f"ngff_version={version!r}: possible are {', '.join(ZARR_FORMAT)}.")
        if levels != "auto" and not (_is_whole(levels) and int(levels) >= 1):
            raise ValueError(
                f"levels={levels!r}: a number of levels from 1 (no pyramid) on, or 'auto'."
            )
        if shards and version == "0.4":
            raise ValueError("shards: NGFF 0.4 has none; use ngff_version='0.5' or leave them out.")
        return cls(
            version,
            compression,
            levels if levels == "auto" else int(levels),
            _checked("chunks", chunks, _CHUNK_AXES, "a chunk holds (a tile of) one plane"),
            _checked("shards", shards, _SHARD_AXES, "a shard holds whole planes"),
            _checked_z_factor(z_factor, levels),
        )

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> ZarrOptions:
        """Return as much of the options as it takes to complete the recording of this header."""
        compression = header.get("compression")
        return cls(
            header["ngff_version"],
            Compression(**compression) if compression else None,
            z_factor=header.get("z_factor", 1),
        )

    def level_shapes(self, image: ImageLayout) -> list[tuple[int, int, int]]:
        """Return z, y and x of every level of an image."""
        height, width = image.frame_shape[:2]
        levels = self.levels if isinstance(self.levels, int) else auto_levels((height, width))
        depths = level_depths(image.sizes.get("z", 1), self.z_factor, levels)
        sizes = level_sizes((height, width), levels)
        return [(z, y, x) for z, (y, x) in zip(depths, sizes, strict=True)]

    @property
    def header(self) -> dict[str, Any]:
        """What the journal's header says, so that others can complete the recording."""
        return {
            "ngff_version": self.version,
            "compression": asdict(self.compression) if self.compression else None,
            "z_factor": self.z_factor,
        }


def _checked_z_factor(z_factor: int, levels: int | str) -> int:
    possible = [2**n for n in range(MOST_PLANES.bit_length())]
    if not _is_whole(z_factor) or z_factor not in possible:
        raise ValueError(
            f"z_factor={z_factor!r}: possible are {', '.join(map(str, possible))} planes that "
            "become one on the next level; 1 leaves z as it is."
        )
    if z_factor > 1 and levels == 1:
        raise ValueError(
            f"z_factor={z_factor} needs a pyramid: levels of 2 or more, or levels='auto'."
        )
    return int(z_factor)


def _checked(
    name: str, given: Mapping[str, int] | None, axes: tuple[str, ...], why: str
) -> dict[str, int]:
    """Return sizes by axis."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{name}={given!r}: a mapping is wanted, such as {dict.fromkeys(axes, 64)}."
        )
    unknown = [axis for axis in given if axis not in axes]
    if unknown:
        raise ValueError(
            f"{name}: axis {', '.join(map(repr, unknown))} is not possible; {why}, so {name} take "
            f"the axes {', '.join(axes)}."
        )
    for axis, size in given.items():
        if not _is_whole(size) or size < 1:
            raise ValueError(f"{name}: {axis}={size!r} must be a whole number from 1 on.")
    return {axis: int(size) for axis, size in given.items()}


def _is_whole(value: Any) -> bool:
    try:
        return int(value) == value and not isinstance(value, bool)
    except (TypeError, ValueError):
        return False
