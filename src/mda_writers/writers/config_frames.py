"""Simulated frames with their configuration, as the savers of simulation programs take them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from mda_writers.formats.ome_elements import LENGTH_UNITS, TIME_UNITS
from mda_writers.model.encode import to_json
from mda_writers.model.names import safe_name
from mda_writers.storage.atomic import replace_bytes
from mda_writers.writers.existing import METADATA_SUFFIX
from mda_writers.writers.save_array import _array, describe, write_array

_SPELLINGS = {"um": "µm", "μm": "µm", "micron": "µm", "microns": "µm", "angstrom": "Å", "sec": "s"}

Step = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MetaData(BaseModel):
    """What is known about frames; the names are those of OME. Only `axes` must be given.

    Sizes are in µm and times in s unless their units say otherwise. `Channel` takes a name, a
    list of names, or ``{"Name": …}``; `notes` a text, a list, or a mapping of notes.
    """

    model_config = ConfigDict(extra="forbid")

    axes: str
    TimeIncrement: Step | None = None
    TimeIncrementUnit: str = "s"
    PhysicalSizeX: Step | None = None
    PhysicalSizeXUnit: str = "µm"
    PhysicalSizeY: Step | None = None
    PhysicalSizeYUnit: str = "µm"
    PhysicalSizeZ: Step | None = None
    PhysicalSizeZUnit: str = "µm"
    Channel: str | list[str] | dict[str, JsonValue] | None = None
    notes: JsonValue | BaseModel = None

    @field_validator("TimeIncrementUnit")
    @classmethod
    def _is_time(cls, unit: str) -> str:
        return _known(unit, TIME_UNITS)

    @field_validator("PhysicalSizeXUnit", "PhysicalSizeYUnit", "PhysicalSizeZUnit")
    @classmethod
    def _is_length(cls, unit: str) -> str:
        return _known(unit, LENGTH_UNITS)

    @property
    def channel_names(self) -> list[str]:
        """The channels' names; empty where there are none."""
        named = self.Channel.get("Name") if isinstance(self.Channel, dict) else self.Channel
        names = [named] if isinstance(named, str) else named or []
        return list(names)  # type: ignore[arg-type]

    @property
    def steps(self) -> dict[str, tuple[float, str]]:
        """Axis → size of a step and its unit, as far as they are known."""
        known = {
            "x": (self.PhysicalSizeX, self.PhysicalSizeXUnit),
            "y": (self.PhysicalSizeY, self.PhysicalSizeYUnit),
            "z": (self.PhysicalSizeZ, self.PhysicalSizeZUnit),
            "t": (self.TimeIncrement, self.TimeIncrementUnit),
        }
        return {axis: (step, unit) for axis, (step, unit) in known.items() if step is not None}


class OutputParameters(BaseModel):
    """Where frames go: a folder, and a name without its suffix."""

    output_path: str | Path
    output_name: str

    @field_validator("output_name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if safe_name(name) != name:
            raise ValueError(f"{name!r} is no file name; {safe_name(name)!r} would be one")
        return name


def save_config_frames(config: MetaData, frames: Any, outputparams: OutputParameters) -> Path:
    """Save frames as ``<output_path>/<output_name>.ome.tiff`` with their metadata.

    The file, a BigTIFF, holds the metadata without the notes. The whole of it is in
    ``metadata.json``, which the next output in the same folder replaces, and in
    ``<output_name>.ome.tiff_metadata.json``, which is this one's own.

    Parameters
    ----------
    config : MetaData
        What is known.
    frames : array-like
        An axis for each letter of ``config.axes``.
    outputparams : OutputParameters
        Where it goes; the folder is made.

    Returns
    -------
    Path
        The image's file.

    Raises
    ------
    ValueError
        If metadata and frames do not fit together; nothing is written then.
    FileExistsError
        If there is an output of that name.
    """
    folder = Path(outputparams.output_path).expanduser().absolute()
    path = folder / f"{outputparams.output_name}.ome.tiff"
    array = _array(frames)
    described = describe(
        outputparams.output_name, array, config.axes, config.channel_names, config.steps, {}
    )
    about = config.model_dump(exclude_none=True)
    write_array(path, array, described, about)
    replace_bytes(folder / METADATA_SUFFIX[1:], to_json(about) + b"\n")
    return path


def _known(unit: str, units: tuple[str, ...]) -> str:
    unit = _SPELLINGS.get(unit, unit)
    if unit not in units:
        raise ValueError(f"{unit!r} is no unit of OME; they are {', '.join(units)}")
    return unit
