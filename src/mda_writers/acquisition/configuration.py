"""The microscope's configuration: devices, properties and the sequence, as JSON and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from useq import MDAEvent, MDASequence

from mda_writers.acquisition.csv_rows import csv_line
from mda_writers.model.encode import event_dict, sequence_dict, to_indented_json, to_json
from mda_writers.storage.atomic import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

COLUMNS = ("section", "device", "name", "value")


def read_configuration(core: CMMCorePlus, sequence: Any) -> dict[str, Any]:
    """Return what `core` is set to and what it is about to do, in plain types.

    ``devices`` (each with its properties), ``config_groups``, ``pixel_size_configs``,
    ``system_info``, … are those of pymmcore-plus's ``SummaryMetaV1``; ``sequence`` is the sequence
    or the list of events, and None where events are made one by one (each frame's metadata then
    has its own).
    """
    from pymmcore_plus.metadata import summary_metadata

    summary = {k: v for k, v in summary_metadata(core).items() if k != "mda_sequence"}
    plain: dict[str, Any] = orjson.loads(to_json({**summary, "sequence": _plan(sequence)}))
    return plain


def write_json(path: Path, configuration: Mapping[str, Any]) -> None:
    """Write a configuration as JSON, for programs."""
    with replacing(path) as stream:
        stream.write(to_indented_json(configuration))


def write_csv(path: Path, configuration: Mapping[str, Any]) -> None:
    """Write the devices, their properties and the sequence as CSV, for people and spreadsheets."""
    with replacing(path) as stream:
        stream.write(csv_line(COLUMNS))
        for row in _rows(configuration):
            stream.write(csv_line(row))


def _plan(sequence: Any) -> Any:
    if isinstance(sequence, MDASequence):
        return sequence_dict(sequence)
    if isinstance(sequence, list | tuple):
        return [event_dict(e) if isinstance(e, MDAEvent) else e for e in sequence]
    return None


def _rows(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    for device in configuration.get("devices") or ():
        label = str(device.get("label", ""))
        for name, value in device.items():
            if name not in ("label", "properties"):
                yield "device", label, name, value
        for prop in device.get("properties") or ():
            yield "property", label, str(prop.get("name", "")), prop.get("value")
    for name, value in _flat("", configuration.get("sequence")):
        yield "sequence", "", name, value


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Return the leaves of a structure, each with its way there: ``channels.0.config``."""
    if isinstance(value, Mapping) and value:
        items = list(value.items())
    elif isinstance(value, list) and value:
        items = list(enumerate(value))
    else:
        yield name, value
        return
    for key, inner in items:
        yield from _flat(f"{name}.{key}" if name else str(key), inner)
