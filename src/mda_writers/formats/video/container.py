"""Video files that are complete at every moment: FFmpeg's header, then one fragment per frame.

FFmpeg's own muxers keep the last frame, or a whole fragment, in memory until the next one comes;
what a killed process had there is lost. Here each frame leaves as one complete piece (an MP4
fragment, a Matroska cluster, an AVI chunk), in one write. What is in the file can be played from
then on, and the ordinary form with its index is made at the end.

Sources: ISO/IEC 14496-12 (movie fragments); RFC 9559 (Matroska); Microsoft's AVI RIFF reference.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SYNC_SAMPLE = 0x02000000
_OTHER_SAMPLE = 0x01010000


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded frame.

    Attributes
    ----------
    data : bytes
        As the encoder made it.
    is_key : bool
        Whether it can be decoded without the frames before it.
    number : int
        The frame's number in the video, from 0.
    ticks : int
        When it is shown, in units of the container's time base.
    duration : int
        For how long, at the nominal rate.
    """

    data: bytes
    is_key: bool
    number: int
    ticks: int
    duration: int


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of video file.

    Attributes
    ----------
    name : str
        FFmpeg's name of it.
    header_options : dict
        What makes FFmpeg write a header that pieces can follow.
    piece : callable
        Makes the bytes that are appended for a frame.
    has_times : bool
        Whether every frame has a presentation time of its own.
    in_band : bool
        Whether the codec's parameters travel with the frames instead of in the header.
    """

    name: str
    header_options: dict[str, str]
    piece: Callable[[Packet], bytes]
    has_times: bool = True
    in_band: bool = False


def mp4_fragment(packet: Packet) -> bytes:
    """Return a movie fragment with one sample."""
    flags = _SYNC_SAMPLE if packet.is_key else _OTHER_SAMPLE
    header = _box(b"mfhd", struct.pack(">II", 0, packet.number + 1))
    track = _box(b"tfhd", struct.pack(">II", 0x020000, 1))  # offsets count from this fragment
    time = _box(b"tfdt", struct.pack(">IQ", 1 << 24, packet.ticks))
    # the sample's data follow the moof (whose size is fixed) and the 8 bytes of the mdat's header
    size = 8 + len(header) + 8 + len(track) + len(time) + 32
    run = _box(
        b"trun",
        struct.pack(">IIiIII", 0x701, 1, size + 8, packet.duration, len(packet.data), flags),
    )
    return _box(b"moof", header + _box(b"traf", track + time + run)) + _box(b"mdat", packet.data)


def mkv_cluster(packet: Packet) -> bytes:
    """Return a cluster with one block."""
    # track 1, no time of its own within the cluster, a key frame or not
    block = struct.pack(">BhB", 0x81, 0, 0x80 if packet.is_key else 0) + packet.data
    return _element(
        b"\x1f\x43\xb6\x75",
        _element(b"\xe7", struct.pack(">Q", packet.ticks)) + _element(b"\xa3", block),
    )


def avi_chunk(packet: Packet) -> bytes:
    """Return a chunk of the first video stream."""
    return (
        b"00dc" + struct.pack("<I", len(packet.data)) + packet.data + b"\0" * (len(packet.data) % 2)
    )


CONTAINERS = {
    ".mp4": Container("mp4", {"movflags": "empty_moov+default_base_moof"}, mp4_fragment),
    ".mkv": Container("matroska", {"live": "1"}, mkv_cluster),
    ".avi": Container("avi", {}, avi_chunk, has_times=False, in_band=True),
}
"""Suffix → what is written there."""


def length_prefixed(data: bytes) -> bytes:
    """Return a frame's NAL units as MP4 and Matroska hold them.

    Encoders put a start code before each unit, these containers its length.
    """
    # zeros before a start code belong to none of the units
    units = [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _element(identity: bytes, content: bytes) -> bytes:
    # a length of eight bytes: the first is the marker
    return identity + struct.pack(">Q", 1 << 56 | len(content)) + content
