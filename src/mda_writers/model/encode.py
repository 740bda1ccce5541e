"""Metadata as JSON: whatever a camera or a user puts into it is written, never a crash."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel
from useq import MDAEvent

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def to_json(value: Any) -> bytes:
    """Return `value` as JSON on one line.

    numpy scalars and arrays, paths, dates, enums, dataclasses, pydantic models, sets and bytes
    (base64) have a form of their own; anything else becomes its ``repr``. Numbers that are not
    finite become null, integers over 64 bits text.
    """
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        # something that orjson refuses however it is asked: a huge integer, a cycle, a lone
        # surrogate. Slower, and it takes everything.
        return orjson.dumps(_harmless(value, depth=0))


def frame_metadata_json(metadata: Mapping[str, Any]) -> bytes:
    """Return a ``FrameMetaV1`` as JSON: all fields by their names, the event without its sequence.

    The event embeds the whole sequence upstream: 53 kB a frame with a thousand positions.
    """
    event = metadata.get("mda_event")
    if isinstance(event, MDAEvent):
        metadata = {**metadata, "mda_event": event_dict(event)}
    return to_json(metadata)


def event_dict(event: MDAEvent) -> dict[str, Any]:
    """Return what was set in `event`, without its sequence."""
    try:
        return event.model_dump(mode="json", exclude={"sequence"}, exclude_unset=True)
    except Exception:
        # a user's metadata in the event may be anything
        fields = {name: getattr(event, name) for name in event.model_fields_set}
        fields.pop("sequence", None)
        return fields


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
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
    if isinstance(value, Iterable):
        return list(value)
    return repr(value)


def _harmless(value: Any, depth: int) -> Any:
    """Return `value` in types that orjson takes in any case."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _harmless(value.value, depth)
    if isinstance(value, int | float):
        fits = not isinstance(value, int) or -(2**63) <= value < 2**64
        return value if fits else str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if depth > 20:  # a cycle, or as good as one
        return _harmless(f"<{type(value).__name__}>", depth)
    if isinstance(value, Mapping):
        return {str(_harmless(k, depth)): _harmless(v, depth + 1) for k, v in value.items()}
    try:
        plain = _plain(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"
    if isinstance(plain, list):
        return [_harmless(v, depth + 1) for v in plain]
    if plain is value:
        return f"<{type(value).__name__}>"
    return _harmless(plain, depth + 1)
