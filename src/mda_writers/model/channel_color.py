"""In which colour a channel is shown: what the dye looks like, or its laser."""

from __future__ import annotations

_COLORS = (
    ("0000FF", ("dapi", "hoechst", "bfp", "405", "blue")),
    ("00FFFF", ("cfp", "cyan", "445")),
    ("00FF00", ("fitc", "gfp", "488", "alexa488", "green")),
    ("FFFF00", ("yfp", "514", "yellow")),
    ("FF8000", ("cy3", "tritc", "rhodamine", "561", "orange")),
    ("FF0000", ("rfp", "mcherry", "texas", "594", "red")),
    ("FF00FF", ("cy5", "647", "640", "farred", "magenta")),
    ("FFFFFF", ("brightfield", "bright", "bf", "phase", "dic", "trans", "white")),
)
"""Colours by what a channel's name contains."""

_OTHER_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


def channel_color(name: str, number: int, count: int) -> str:
    """Return the colour of a channel, ``RRGGBB``.

    Parameters
    ----------
    name : str
        The channel's name.
    number, count : int
        Which of how many channels it is, for those whose names say nothing; one alone is white.
    """
    plain = name.lower().replace(" ", "").replace("-", "")
    for color, words in _COLORS:
        if any(word in plain for word in words):
            return color
    return "FFFFFF" if count == 1 else _OTHER_COLORS[number % len(_OTHER_COLORS)]
