"""A seal on what is written about a recording: an altered byte is told from a true one.

The pixels of a frame have their checksum; what says where they belong must not be less safe. A
seal is the last member of a JSON object, ``"seal": "…"``, the xxh3_64 of all that stands before.
"""

from __future__ import annotations

import xxhash

_START = b',"seal":"'
_FARTHEST = 64
"""Bytes from the end within which a seal begins."""


def seal_and_close(body: bytes) -> bytes:
    """Return `body`, a JSON object without its last brace, with its seal and the brace."""
    return b"".join((body, _START, xxhash.xxh3_64_hexdigest(body).encode(), b'"}'))


def sealed(json: bytes) -> bytes:
    """Return a JSON object with its seal."""
    return seal_and_close(json[:-1])


def is_intact(text: bytes) -> bool:
    """Return whether `text` is as it was sealed; True where it has no seal."""
    start = text.rfind(_START, max(0, len(text) - _FARTHEST))
    if start < 0:
        return True
    digest = text[start + len(_START) :][:16]
    return digest == xxhash.xxh3_64_hexdigest(text[:start]).encode()
