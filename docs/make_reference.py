"""Write docs/reference.md from the docstrings: ``python docs/make_reference.py``."""

from __future__ import annotations

import inspect
from pathlib import Path

import mda_writers

TARGET = Path(__file__).parent / "reference.md"


def reference() -> str:
    """Return the page: every public name with its signature and docstring."""
    parts = ["# Reference", "Made from the docstrings by `docs/make_reference.py`."]
    for name in mda_writers.__all__:
        if name not in ("__version__", "CustomWriter"):
            parts += described(name, getattr(mda_writers, name), level=2)
    return "\n\n".join(parts) + "\n"


def described(name: str, thing: object, level: int) -> list[str]:
    """Return the heading, signature and docstring of one name, and of its public members."""
    parts = [f"{'#' * level} {name}", f"```text\n{signature(name, thing)}\n```", text_of(thing)]
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for member, value in own_members(thing):
            parts += [f"**{signature(member, value)}**", text_of(value)]
    return parts


def own_members(thing: type) -> list[tuple[str, object]]:
    """Return the public members that this package defines and describes."""
    found = {
        name: value
        for base in reversed(thing.__mro__)
        if base.__module__.startswith("mda_writers")
        for name, value in vars(base).items()
        if not name.startswith("_") and name[0].islower()
    }
    return [(n, v) for n, v in found.items() if getattr(v, "__doc__", None) and is_described(v)]


def is_described(value: object) -> bool:
    """Return whether a member's docstring is its own, not its type's."""
    return isinstance(value, property | classmethod) or inspect.isfunction(value)


def signature(name: str, thing: object) -> str:
    """Return how a name is called; just the name where it is not."""
    if isinstance(thing, classmethod):
        thing = thing.__func__
    if isinstance(thing, property) or not callable(thing) or hasattr(thing, "model_fields"):
        return name  # pydantic's own signatures differ from version to version
    try:
        return f"{name}{inspect.signature(thing)}"
    except ValueError:
        return name


def text_of(thing: object) -> str:
    """Return a docstring as it stands, in a block that keeps its columns."""
    return f"```text\n{inspect.getdoc(thing) or ''}\n```"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
