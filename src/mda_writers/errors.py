"""What can go wrong while a recording is written."""

from __future__ import annotations


class WriteError(RuntimeError):
    """A recording could not be written as asked.

    The base of every error that this package raises about a recording. Its text says what
    happened, where, how much is concerned, and the way out. Frames that were on disk before
    stay there and stay readable.
    """


class DiskFullError(WriteError):
    """The disk has, or would have, no room for the recording."""


class BacklogError(WriteError):
    """Frames came faster than the disk takes them for longer than memory can hold them.

    The acquisition was cancelled; every frame that had been acquired by then was still written.
    """


class MissingFramesError(WriteError):
    """The acquisition engine took frames that never came; every other frame is on disk.

    Attributes
    ----------
    missing : list of dict
        Their indices, as in the report.
    """

    def __init__(self, text: str, missing: list[dict[str, int]]) -> None:
        super().__init__(text)
        self.missing = missing

    def __reduce__(self) -> tuple[type, tuple[str, list[dict[str, int]]]]:
        return type(self), (str(self), self.missing)


class FrameError(WriteError, ValueError):
    """A frame does not fit the recording: its shape, its dtype, its index."""


class CorruptRecordingError(WriteError):
    """A file of a recording is cut, altered, or not what its name says."""
