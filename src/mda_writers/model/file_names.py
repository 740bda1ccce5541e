"""Names of the files of a series: one template, and every name only once."""

from __future__ import annotations

from itertools import product
from string import Formatter

from mda_writers.model.layout import ImageLayout
from mda_writers.model.names import fold, safe_name

FIELDS = ("c", "t", "p", "channel", "position")
"""What a template may name: channel, time point and position by number, the first and the last
also by name."""


def check_template(template: str) -> None:
    """Look at a template before anything is known of the frames.

    Raises
    ------
    ValueError
        If it cannot give file names.
    """
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
        name = template.format(c=0, t=0, p=0, channel="DAPI", position="Pos0")
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"template {template!r}: {_how()} ({error})") from error
    unknown = [field for field in fields if field not in FIELDS]
    if unknown or safe_name(name) != name:
        raise ValueError(f"template {template!r} gives the file name {name!r}: {_how()}")


def file_name(template: str, image: ImageLayout, c: int, t: int) -> str:
    """Return the name, without a suffix, of the file for one channel and time point."""
    channel = image.channels[c].name if c < len(image.channels) else ""
    return template.format(
        c=c,
        t=t,
        p=image.index.get("p", 0),
        channel=safe_name(channel) if channel else f"CH{c:02d}",
        position=image.key,
    )


def check_unique(template: str, image: ImageLayout, first_t: int) -> None:
    """See that no two files of an image would have one name.

    Raises
    ------
    ValueError
        Naming two that would.
    """
    places = product(range(image.sizes.get("c", 1)), range(image.sizes.get("t", 1)))
    seen: dict[str, tuple[int, int]] = {}
    for c, t in places:
        name = fold(file_name(template, image, c, first_t + t))
        if name in seen:
            raise ValueError(
                f"template {template!r} gives {name!r} for c={c}, t={t} and for c={seen[name][0]}, "
                f"t={seen[name][1]}: {_how()}"
            )
        seen[name] = (c, t)


def check_open(template: str) -> None:
    """See that a template will do for frames of which nothing is known.

    Raises
    ------
    ValueError
        If it might give two files one name.
    """
    if "channel" in {field for _, field, _, _ in Formatter().parse(template)}:
        raise ValueError(
            f"template {template!r}: what the channels of a list of events are called is not known "
            "beforehand; name them by number, {c:02d}."
        )
    check_unique(template, ImageLayout("", "", {}, {"c": 12, "t": 120}, (), ""), 0)


def _how() -> str:
    return f"it takes {', '.join(FIELDS)}, without folders, for example 'CH{{c:02d}}_{{t:06d}}'."
