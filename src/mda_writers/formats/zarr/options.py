"""Options of OME-Zarr: chunks, shards, levels, compression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mda_writers.formats.zarr.ngff import ZARR_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from mda_writers.model.layout import ImageLayout


_CHUNK_AXES = ("y", "x")
_SHARD_AXES = ("t", "c", "z")

CODECS = ("blosc-lz4", "blosc-zstd", "zstd")
SHUFFLES = ("bit", "byte", "none")

_DEFAULT_LEVEL = 1
"""Camera noise does not compress: higher levels take two to ten times as long for some percent."""

_DEFAULT_SHUFFLE = {"blosc-lz4": "bit", "blosc-zstd": "byte", "zstd": "none"}
"""Measured on 12-bit camera frames: the fastest of those that compress best with each codec."""

_BLOSC_SHUFFLE = {"none": 0, "byte": 1, "bit": 2}
_ZARR_SHUFFLE = {"none": "noshuffle", "byte": "shuffle", "bit": "bitshuffle"}

MOST_PLANES = 64
"""Planes of one mean at most: the sums of ``2 × 2 × 64`` pixels fit into the types below."""


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


@dataclass(frozen=True, slots=True)
class Compression:
    """How chunks are compressed: one of `CODECS`, its level, and the order of bytes before it."""

    codec: str
    level: int
    shuffle: str

    @classmethod
    def parse(
        cls, codec: str | None, level: int | None = None, shuffle: str | None = None
    ) -> Compression | None:
        """Return the compression asked for; None for none.

        Raises
        ------
        ValueError
            If there is no such codec, level or shuffle; it lists those that there are.
        """
        if codec is None:
            if level is not None or shuffle is not None:
                raise ValueError(
                    "compression_level and shuffle need a compression: " + ", ".join(CODECS) + "."
                )
            return None
        if codec not in CODECS:
            raise ValueError(
                f"compression={codec!r} is not known. Possible are {', '.join(CODECS)}, and None "
                "for uncompressed."
            )
        most = 22 if codec == "zstd" else 9
        level = _DEFAULT_LEVEL if level is None else level
        if level not in range(most + 1):
            raise ValueError(f"compression_level={level!r}: {codec} takes 0 to {most}.")
        shuffle = shuffle or _DEFAULT_SHUFFLE[codec]
        possible = SHUFFLES if codec.startswith("blosc") else ("none",)
        if shuffle not in possible:
            raise ValueError(f"shuffle={shuffle!r}: {codec} takes {', '.join(possible)}.")
        return cls(codec, level, shuffle)

    def for_zarr(self, version: int, itemsize: int) -> Any:
        """Return the codec as zarr-python takes it, for Zarr format `version`."""
        if version == 2:
            return self._numcodecs()
        from zarr.codecs import BloscCodec, ZstdCodec

        if self.codec == "zstd":
            return ZstdCodec(level=self.level)
        cname: Any = self.codec.removeprefix("blosc-")
        shuffle: Any = _ZARR_SHUFFLE[self.shuffle]
        return BloscCodec(
            cname=cname,
            clevel=self.level,
            shuffle=shuffle,
            typesize=itemsize,
        )

    def encoder(self) -> Callable[[np.ndarray], Any]:
        """Return what compresses a chunk; may be called from several threads at once."""
        from numcodecs import blosc

        # each of our threads compresses a chunk of its own; blosc's threads would share one lock
        blosc.use_threads = False
        encode: Callable[[np.ndarray], Any] = self._numcodecs().encode
        return encode

    def decoder(self) -> Callable[[bytes], Any]:
        """Return what gives back the bytes of a chunk."""
        decode: Callable[[bytes], Any] = self._numcodecs().decode
        return decode

    def _numcodecs(self) -> Any:
        from numcodecs import Blosc, Zstd

        if self.codec == "zstd":
            return Zstd(level=self.level)
        return Blosc(
            cname=self.codec.removeprefix("blosc-"),
            clevel=self.level,
            shuffle=_BLOSC_SHUFFLE[self.shuffle],
        )


def level_sizes(yx: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """Return height and width of each level, the first as given."""
    sizes = [yx]
    while len(sizes) < levels:
        y, x = sizes[-1]
        sizes.append(((y + 1) // 2, (x + 1) // 2))
    return sizes


def level_depths(planes: int, z_factor: int, levels: int) -> list[int]:
    """Return the planes along z of each level, the first as given; the last slab may be thinner."""
    depths = [planes]
    while len(depths) < levels:
        depths.append(-(-depths[-1] // z_factor))
    return depths


def auto_levels(yx: tuple[int, int], smallest: int = 256) -> int:
    """Return how many levels it takes until one fits into `smallest` pixels on each side."""
    levels = 1
    while max(level_sizes(yx, levels)[-1]) > smallest:
        levels += 1
    return levels
