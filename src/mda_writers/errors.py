"""What can go wrong with a recording, and what is wrong with a call."""

from __future__ import annotations

from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from json import JSONDecodeError
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")


class RecordingError(RuntimeError):
    """The base of every error that this package raises about a recording.

    Its text says what happened, where, how much is concerned, and the way out.
    """


class WriteError(RecordingError):
    """A recording could not be written as asked.

    Frames that were on disk before stay there and stay readable.
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


class CorruptRecordingError(RecordingError):
    """A file of a recording is cut, altered, or not what its name says."""


class CoordinateError(RecordingError, LookupError):
    """There is no such axis, value, or frame; the text lists what there is."""


class MissingFrameError(CoordinateError):
    """There is no such value, or no frame on disk for it."""


class UnknownOptionError(TypeError):
    """A call names an option that does not exist; the text says which one was probably meant."""

    def __init__(self, who: str, name: str, known: Iterable[str]) -> None:
        self.who, self.name, self.known = who, name, sorted(known)
        near = get_close_matches(name, self.known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.known)}."
        super().__init__(f"{who} has no option {name!r}; {hint}")

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        return type(self), (self.who, self.name, self.known)


def in_words(error: BaseException) -> str:
    """Return what went wrong as a sentence, also where a library said no more than a key."""
    text = str(error)
    if isinstance(error, MemoryError):
        return f"Memory is not enough for it ({text or 'MemoryError'}). Work on fewer at once."
    if isinstance(error, JSONDecodeError):
        return f"A file that should hold JSON is cut or altered ({text})."
    if text and isinstance(error, OSError | ValueError | RuntimeError | UnknownOptionError):
        return text
    return (
        f"A file is damaged, or not understood ({type(error).__name__}: {text}). Verify the "
        "recording, or report it as a fault of this package."
    )


def option_names(call: Callable[..., object]) -> set[str]:
    """Return the names that `call` takes its options by."""
    kinds = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    named = signature(call).parameters.items()
    return {name for name, p in named if p.kind in kinds and name != "self"}


def options_checked(
    who: str, also: Iterable[str] = ()
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have calls with an option that does not exist raise `UnknownOptionError`.

    Parameters
    ----------
    who : str
        What is called, for the message.
    also : iterable of str
        Options that the call takes as ``**options``.
    """

    def decorate(call: Callable[P, T]) -> Callable[P, T]:
        known = option_names(call) | {*also}

        @wraps(call)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            for name in kwargs:
                if name not in known:
                    raise UnknownOptionError(who, name, known)
            return call(*args, **kwargs)

        return checked

    return decorate
