"""Seals: an altered byte in what is written about a recording is told from a true one.

The pixels of a frame have their checksum; what says where they belong must not be less safe. A
JSON object is sealed by its last member, ``"seal": "…"``, the xxh3_64 of all that stands before;
a file of another kind, as a TIFF, by a `FileSeal` that is kept in a sealed object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_START = b',"seal":"'
_END = b'"}'
_DIGEST_BYTES = 16

SEAL_BYTES = len(_START) + _DIGEST_BYTES + len(_END)
"""Length of a seal, with the brace that it closes."""

_FARTHEST = 64
"""Bytes from the end within which a seal begins."""


SEALS = "seals"
"""Where a recording's report file keeps the seals of its other files, by name."""

_READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class FileSeal:
    """What a file holds besides pixels, which have checksums of their own.

    Attributes
    ----------
    xxh3_64 : str
        Checksum of all bytes that are not pixels.
    size_bytes : int
        The file's length.
    pixels : tuple of int
        Where pixels begin and end, begin and end, …; ascending.
    """

    xxh3_64: str
    size_bytes: int
    pixels: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path, pixels: Sequence[int] = ()) -> Self:
        """Return the seal of a file as it is now."""
        digest, size = xxhash.xxh3_64(), path.stat().st_size
        with path.open("rb", buffering=0) as stream:
            for begin, end in _between(pixels, size):
                stream.seek(begin)
                while begin < end and (chunk := stream.read(min(_READ_BYTES, end - begin))):
                    digest.update(chunk)
                    begin += len(chunk)
        return cls(digest.hexdigest(), size, tuple(pixels))

    @classmethod
    def of_entry(cls, entry: Sequence[Any]) -> Self:
        """Return the seal that `entry` was made of."""
        digest, size, pixels = entry
        return cls(digest, size, tuple(pixels))

    @property
    def entry(self) -> list[Any]:
        """The seal as JSON has it."""
        return [self.xxh3_64, self.size_bytes, list(self.pixels)]

    def damage(self, path: Path) -> str:
        """Return how a file differs from the one that was sealed; nothing if it does not.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        size = path.stat().st_size
        if size != self.size_bytes:
            return f"it has {size} bytes, and was written with {self.size_bytes}"
        if self.of(path, self.pixels).xxh3_64 != self.xxh3_64:
            return "what it says besides the pixels is altered since it was written"
        return ""


def _between(pixels: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Return what is not between the begin and the end of pixels."""
    bounds = (0, *pixels, size)
    return zip(bounds[::2], bounds[1::2], strict=True)


def seal_and_close(body: bytes) -> bytes:
    """Return `body`, a JSON object without its last brace, with its seal and the brace."""
    return b"".join((body, _START, _digest(body), _END))


def sealed(json: bytes) -> bytes:
    """Return a JSON object with its seal."""
    return seal_and_close(json[:-1])


def is_intact(text: bytes) -> bool:
    """Return whether `text` is as it was sealed; True where it has no seal."""
    start = text.rfind(_START, max(0, len(text) - _FARTHEST))
    if start < 0:
        return not _lost_its_mark(text)
    end = start + len(_START) + _DIGEST_BYTES
    return (
        text[end - _DIGEST_BYTES : end] == _digest(text[:start])
        and text.startswith(_END, end)
        and not text[end + len(_END) :].strip(b"}\n")
    )


def is_sealed(text: bytes) -> bool:
    """Return whether `text` has a seal, and is as it was sealed."""
    return text.rfind(_START, max(0, len(text) - _FARTHEST)) >= 0 and is_intact(text)


def _lost_its_mark(text: bytes) -> bool:
    """Return whether the checksum of a seal is there, and the word that introduces it altered."""
    end = text.rfind(b'"')
    start = end - _DIGEST_BYTES - len(_START)
    return start >= 0 and text[end - _DIGEST_BYTES : end] == _digest(text[:start])


def _digest(body: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(body).encode()


def first_broken(texts: Sequence[bytes], closed: int) -> int | None:
    """Return which of many texts is the first without its seal, or not as it was sealed.

    Parameters
    ----------
    texts : sequence of bytes
        Objects that end with their seal, each followed by `closed` braces more.

    Returns
    -------
    int or None
        Its number; None if all are intact. For thousands of texts much faster than `is_intact`.
    """
    if _all_intact(texts, closed):
        return None
    return next(n for n, text in enumerate(texts) if not _all_intact([text], closed))


def _all_intact(texts: Sequence[bytes], closed: int) -> bool:
    length = SEAL_BYTES + closed
    ends = b"".join([text[-length:] for text in texts])
    if len(ends) != length * len(texts):
        return False
    digests = b"".join(map(xxhash.xxh3_64_digest, [text[:-length] for text in texts]))
    table = np.frombuffer(ends, np.uint8).reshape(-1, length)
    start, digest, end = np.split(table, [len(_START), len(_START) + _DIGEST_BYTES], axis=1)
    return bool(
        (start == np.frombuffer(_START, np.uint8)).all()
        and (end == np.frombuffer(_END + b"}" * closed, np.uint8)).all()
        and digest.tobytes() == digests.hex().encode()
    )
