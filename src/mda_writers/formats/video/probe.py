"""What this machine can encode: found out once, by really doing it."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache

import numpy as np

from mda_writers.formats.video.codecs import CODECS, UNKNOWN_NEAREST, Codec, find_codec
from mda_writers.formats.video.container import CONTAINERS
from mda_writers.formats.video.encoder import Encoder, FrameMaker, Picture

_TRIAL_SHAPE = (64, 96)
_TRIAL_FRAMES = 3


def video_codecs(suffix: str | None = None) -> dict[str, list[str]]:
    """Return what works here: suffix → four letters of the codecs, the usual one first.

    Parameters
    ----------
    suffix : str, optional
        ``.mp4``, ``.mkv`` or ``.avi``; by default all of them.
    """
    suffixes = CONTAINERS if suffix is None else (suffix.lower(),)
    return {each: [name for name in CODECS if can_encode(name, each)] for each in suffixes}


def choose_codec(fourcc: str, suffix: str) -> tuple[Codec, str]:
    """Return the codec to use, and a sentence if it is not the one that was asked for.

    Raises
    ------
    ValueError
        If neither `fourcc` nor one that may stand in for it works here.
    """
    asked = find_codec(fourcc)
    if asked is not None and can_encode(asked.fourcc, suffix):
        return asked, ""
    for name in UNKNOWN_NEAREST if asked is None else asked.nearest:
        if can_encode(name, suffix):
            return CODECS[name], (
                f"{fourcc} cannot be encoded into {suffix} on this machine: {name} is used "
                f"instead. mda_writers.video_codecs() lists what works here."
            )
    raise ValueError(
        f"{fourcc} cannot be encoded into {suffix} on this machine, and nothing keeps its promise "
        f"instead. What works here: {', '.join(video_codecs(suffix)[suffix]) or 'nothing'}."
    )


@cache
def can_encode(fourcc: str, suffix: str) -> bool:
    """Whether a codec of the table works here: a trial's frames must all come back."""
    try:
        return _trial(CODECS[fourcc], suffix) == _TRIAL_FRAMES
    except Exception:
        # whatever FFmpeg, or a missing library, has to say: it does not work
        return False


def _trial(codec: Codec, suffix: str) -> int:
    import av

    picture = Picture(codec, suffix, _TRIAL_SHAPE, "uint8", Fraction(30), False, {})
    encoder, frames = Encoder(picture), FrameMaker(picture)
    try:
        data = encoder.header + b"".join(
            encoder.encode(frames.make(np.full(_TRIAL_SHAPE, 40 * n, np.uint8)), n, n / 30)
            for n in range(_TRIAL_FRAMES)
        )
    finally:
        encoder.close()
    with av.open(io.BytesIO(data), "r") as file:
        return sum(1 for _ in file.decode(video=0))
