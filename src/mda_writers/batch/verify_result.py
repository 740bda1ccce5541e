"""What verifying has shown: of a recording, or of a part of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAULTS_LISTED = 10_000
"""How many frames a result names; `VerifyResult.frames_faulty` counts them all."""

FAULTS_TOLD = 20
"""How many of them it names when it is printed."""


@dataclass(frozen=True, slots=True)
class FrameFault:
    """A frame that is not what was written: its image's key, its index, its file, and why."""

    key: str
    number: int
    index: dict[str, int]
    file: str
    what: str

    def __str__(self) -> str:
        index = ", ".join(f"{axis}={i}" for axis, i in self.index.items())
        return f"frame {self.number} ({index}) in {self.file}: {self.what}"


@dataclass(slots=True)
class VerifyResult:
    """What reading a recording back has shown.

    Attributes
    ----------
    path : str
        The recording's main path.
    complete : bool
        Whether the recording itself says that every planned frame was written.
    interrupted : bool
        Whether it has no end: it was killed, or is still being written.
    live : bool
        Whether it is still being written.
    frames_checked : int
        Frames on record, each read back.
    bytes_read : int
        Bytes of their pixels.
    frames_lossy : int
        Frames that were found and decoded, and not compared: a lossy video does not keep them
        bit for bit.
    frames_faulty : int
        Frames that are not what was written.
    faults : list of FrameFault
        The first of them.
    files_missing : list of str
        Files that are on record and not on disk.
    files_damaged : dict
        File → what keeps readers from its frames.
    seconds : float
        How long it took.
    """

    path: str
    complete: bool
    interrupted: bool
    frames_checked: int = 0
    bytes_read: int = 0
    frames_lossy: int = 0
    frames_faulty: int = 0
    faults: list[FrameFault] = field(default_factory=list)
    files_missing: list[str] = field(default_factory=list)
    files_damaged: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    live: bool = False

    @property
    def intact(self) -> bool:
        """Whether every frame on record is on disk as it was written."""
        return not (self.frames_faulty or self.files_missing or self.files_damaged)

    @property
    def ok(self) -> bool:
        """Whether the recording is both intact and complete."""
        return self.intact and self.complete

    def note(self, key: str, ours: Mapping[str, Any], what: str) -> None:
        """Note that a frame, with these additions in its metadata, is not what was written."""
        self.frames_faulty += 1
        if len(self.faults) < FAULTS_LISTED:
            file = str(ours.get("file", ""))
            fault = FrameFault(key, ours["number"], dict(ours["index"]), file, what)
            self.faults.append(fault)

    def __str__(self) -> str:
        found = [f"missing {file}" for file in self.files_missing]
        found += [f"damaged {file}: {what}" for file, what in self.files_damaged.items()]
        found += map(str, self.faults[:FAULTS_TOLD])
        if self.frames_faulty > FAULTS_TOLD:
            found.append(f"… and {self.frames_faulty - FAULTS_TOLD} more frames")
        counted = f"{self.frames_checked} frames read, "
        if self.frames_lossy:
            counted += f"{self.frames_lossy} of a lossy video, which can be decoded, no more; "
        counted += f"{self.frames_faulty} not as they were written; {self._state}"
        return "\n".join([counted, *found])

    @property
    def _state(self) -> str:
        if self.interrupted:
            how = "still being written" if self.live else "interrupted: `recover` completes it"
            return f"intact, {how}" if self.intact else how
        return "the recording is complete" if self.complete else "the recording is not complete"


def joined(results: Sequence[VerifyResult]) -> VerifyResult:
    """Return what verifying has shown, from all of its parts."""
    whole = results[0]
    for part in results[1:]:
        whole.faults = [*whole.faults, *part.faults][:FAULTS_LISTED]
        whole.files_missing += part.files_missing
        whole.files_damaged |= part.files_damaged
        for name in _COUNTS:
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
    return whole


_COUNTS = ("frames_checked", "bytes_read", "frames_lossy", "frames_faulty", "seconds")
