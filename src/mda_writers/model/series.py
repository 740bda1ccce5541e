"""Where the images of a recording lie within its one folder: numbered, or by well and field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from useq import MDASequence, WellPlatePlan

FileOf = Callable[[Mapping[str, int]], str]
"""An image's index → its folder, relative to the recording's; asked once for every image."""


def numbered(folder: str) -> FileOf:
    """Return a rule that numbers the images: ``folder/0``, ``folder/1``, …."""
    numbers = Counter[str]()
    return lambda index: _next(folder, numbers)


def by_well(folder: str, plate: Mapping[str, Any]) -> FileOf:
    """Return a rule that puts the images of a well side by side: ``folder/A/1/0``, ….

    Parameters
    ----------
    folder : str
        The recording's folder.
    plate : mapping
        What `describe_plate` returned.
    """
    numbers = Counter[str]()

    def file_of(index: Mapping[str, int]) -> str:
        row, column = plate["wells"][index.get("p", 0) // plate["points_per_well"]]
        well = f"{folder}/{plate['rows'][row]}/{plate['columns'][column]}"
        return _next(well, numbers)

    return file_of


def describe_plate(sequence: MDASequence) -> dict[str, Any]:
    """Return the plate of a sequence: names of rows and columns, the selected wells in order.

    Empty for a sequence without a plate. ``wells`` holds ``(row, column)`` from 0, and position
    p lies in well ``p // points_per_well``.
    """
    from useq import WellPlatePlan

    plan = sequence.stage_positions
    return _describe(plan) if isinstance(plan, WellPlatePlan) else {}


def _describe(plan: WellPlatePlan) -> dict[str, Any]:
    plate = plan.plate
    return {
        "name": plate.name or "plate",
        "rows": [_row_name(n) for n in range(plate.rows)],
        "columns": [str(n + 1) for n in range(plate.columns)],
        "wells": [(int(row), int(column)) for row, column in plan.selected_well_indices],
        "points_per_well": int(plan.num_points_per_well),
    }


def _row_name(number: int) -> str:
    """Return A … Z, AA … as plates are labelled."""
    name = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def _next(folder: str, numbers: Counter[str]) -> str:
    number = numbers[folder]
    numbers[folder] += 1
    return f"{folder}/{number}"
