"""Metadata as JSON, and as cells of CSV: whatever a user puts into it is written, never a crash."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence, Set, ValuesView
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from math import isfinite, isnan
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from pydantic import BaseModel
from useq import MDAEvent, MDASequence

_MOST_LEVELS = 100
"""Of structures within structures; orjson takes 254, and whoever reads them may take fewer."""

_FORMULA = re.compile(r"'*[=+\-@\t\r].", re.DOTALL)
"""How a text begins that a spreadsheet takes for a formula; source: OWASP, "CSV Injection". With
apostrophes in front, too, so that each text comes back as it was."""

_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def to_json(value: Any) -> bytes:
    """Return `value` as JSON on one line, whatever it is.

    numpy scalars and arrays, paths, dates, enums, dataclasses, pydantic models, sets and bytes
    (base64) have a form of their own; anything else becomes its ``repr``. Numbers that are not
    finite become the texts ``NaN``, ``Infinity`` and ``-Infinity``, integers over 64 bits text.
    Where a structure holds itself, the type's name stands for it the second time.
    """
    text = _finite_json(value)
    # orjson writes null for a number that is not finite, too
    if b"null" in text and _may_not_be_finite(value):
        return orjson.dumps(_Plain().of(value))
    return text


def to_indented_json(value: Any) -> bytes:
    """Return the same over several lines, for files that people read."""
    return orjson.dumps(orjson.loads(to_json(value)), option=_INDENTED)


def csv_cell(value: Any) -> str:
    """Return the text of one cell of CSV: numbers with all their digits, structures as JSON.

    A spreadsheet runs a text that begins like a formula (``=cmd…``); an apostrophe before it keeps
    it a text. Numbers such as -1.5 are none, and stay as they are.
    """
    if isinstance(value, np.generic) and not isinstance(value, np.longdouble | np.clongdouble):
        value = value.item()
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, bytes | bytearray):  # a line from a serial port, as a rule
        return _no_formula(bytes(value).decode("utf-8", "backslashreplace"))
    plain = _Plain().of(value)
    if isinstance(plain, str):
        return _no_formula(plain)
    return orjson.dumps(plain).decode()


def from_csv_cell(text: str) -> str:
    """Return a text as it was given to `csv_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def frame_metadata_json(metadata: Mapping[str, Any]) -> bytes:
    """Return a ``FrameMetaV1`` as JSON: all fields by their names, the event without its sequence.

    Upstream the event embeds the complete sequence: 53 kB per frame with a thousand positions.
    """
    event = metadata.get("mda_event")
    if not isinstance(event, MDAEvent):
        return to_json(metadata)
    others = to_json({name: value for name, value in metadata.items() if name != "mda_event"})
    comma = b"," if len(others) > 2 else b""
    # pydantic has seen to its numbers: to look at them again would double what a frame costs
    written = to_json(event_dict(event)) if event.metadata else _finite_json(event_dict(event))
    return b"".join((others[:-1], comma, b'"mda_event":', written, b"}"))


def event_dict(event: MDAEvent) -> dict[str, Any]:
    """Return what was set in `event`, without its sequence; the user's metadata as they are."""
    found = _dumped(event, exclude={"sequence", "metadata"}, exclude_unset=True)
    if event.metadata:
        found["metadata"] = event.metadata
    return found


def sequence_dict(sequence: MDASequence) -> dict[str, Any]:
    """Return `sequence` as useq reads it back; the user's metadata as they are, for `to_json`."""
    # not exclude_unset: that leaves out the type of an action, and useq could not read it back
    found = _dumped(sequence, exclude={"metadata"}, exclude_none=True)
    if sequence.metadata:
        found["metadata"] = sequence.metadata
    if isinstance(sequence.stage_positions, tuple):  # and no plate
        found["stage_positions"] = [_position_dict(p) for p in sequence.stage_positions]
    return found


def _position_dict(position: Any) -> dict[str, Any]:
    found = _dumped(position, exclude={"sequence"}, exclude_none=True)
    if position.sequence is not None:
        found["sequence"] = sequence_dict(position.sequence)
    return found


def _dumped(model: BaseModel, exclude: set[str] | None = None, **how: Any) -> dict[str, Any]:
    """Return the fields of a model, each as pydantic writes it or, if it cannot, as it is."""
    try:
        return model.model_dump(mode="json", exclude=exclude, **how)
    except Exception:
        names = {*type(model).model_fields, *(model.model_extra or ())} - (exclude or set())
    found: dict[str, Any] = {}
    for name in names:
        try:
            found |= model.model_dump(mode="json", include={name}, **how)
        except Exception:
            found[name] = getattr(model, name)
    return found


def _finite_json(value: Any) -> bytes:
    """Return JSON with null for numbers that are not finite."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except (TypeError, ValueError, RecursionError):
        # something that orjson refuses however it is asked: a huge integer, a cycle, a lone
        # surrogate, a key that is no text. Slower, and it takes everything.
        return orjson.dumps(_Plain().of(value))


def _may_not_be_finite(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        return not isfinite(value)
    if kind is dict:
        return any(map(_may_not_be_finite, value.values()))
    if kind is list or kind is tuple:
        return any(map(_may_not_be_finite, value))
    return kind not in _FINITE


_FINITE = (str, int, bool, type(None))


def _plain(value: Any) -> Any:
    """Return `value` as something plainer, which may yet hold anything.

    Iterators stay unread: they may be endless, or somebody else's.
    """
    if isinstance(value, BaseModel):
        return _dumped(value, exclude_unset=True)
    if isinstance(value, np.longdouble):
        return float(value)
    if isinstance(value, np.clongdouble):
        return repr(complex(value))
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath | UUID | Decimal | Fraction):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Sequence | Set | ValuesView):
        return list(value)
    return repr(value)


class _Plain:
    """Makes plain types of one value, however deep, wide or entangled it is."""

    def __init__(self) -> None:
        # by identity: what was seen, which must not be freed meanwhile, and what became of it
        self._seen: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any, level: int = 0) -> Any:
        """Return `value` in types that orjson takes in any case."""
        try:
            return self._of(value, level)
        except Exception:  # a live object that does not even say of what class it is
            return _named(value)

    def _of(self, value: Any, level: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.of(value.value, level + 1)
        if isinstance(value, int):
            return _integer(int(value))
        if isinstance(value, float):
            return _number(float(value))
        if isinstance(value, str):
            return _text(value)
        known = self._seen.get(id(value))
        if known is not None:
            return known[1]
        self._seen[id(value)] = (value, _named(value))  # for itself, somewhere within itself
        made = _named(value) if level > _MOST_LEVELS else self._structure(value, level)
        self._seen[id(value)] = (value, made)
        return made

    def _structure(self, value: Any, level: int) -> Any:
        plain = _plainer(value)
        if isinstance(plain, dict):
            return self._mapping(plain, level)
        if isinstance(plain, list | tuple):
            return [self.of(inner, level + 1) for inner in plain]
        return self.of(plain, level + 1)

    def _mapping(self, mapping: dict[Any, Any], level: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, inner in mapping.items():
            plain = self.of(key, level + 1)
            name = plain if isinstance(plain, str) else orjson.dumps(plain).decode()
            while name in made:  # {1: …, "1": …}
                name += "_"
            made[name] = self.of(inner, level + 1)
        return made


def _plainer(value: Any) -> Any:
    """Return what `_plain` does, or at least a text, of objects of which nothing works."""
    if type(value) in (dict, list, tuple):
        return value
    for form in (_plain, repr):
        try:
            return form(value)
        except Exception:
            continue
    return _named(value)


def _no_formula(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _named(value: Any) -> str:
    return _text(f"<{type(value).__name__}>")


def _integer(value: int) -> int | str:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return str(value)
    except ValueError:  # thousands of digits take Python too long in decimals
        return hex(value)


def _number(value: float) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()
