"""Compression of Zarr chunks: what can be asked for, and who does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

CODECS = ("blosc-lz4", "blosc-zstd", "zstd")
SHUFFLES = ("bit", "byte", "none")

_DEFAULT_LEVEL = 1
"""Camera noise does not compress: higher levels take two to ten times as long for some percent."""

_DEFAULT_SHUFFLE = {"blosc-lz4": "bit", "blosc-zstd": "byte", "zstd": "none"}
"""Measured on 12-bit camera frames: the fastest of those that compress best with each codec."""

_BLOSC_SHUFFLE = {"none": 0, "byte": 1, "bit": 2}
_ZARR_SHUFFLE = {"none": "noshuffle", "byte": "shuffle", "bit": "bitshuffle"}


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
