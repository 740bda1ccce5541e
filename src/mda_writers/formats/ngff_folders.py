"""What the folders above the images say: which images a series has, or a plate and its wells."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from mda_writers.formats.ngff import versioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def series_root(version: str) -> dict[str, Any]:
    """Return the attributes of a folder of several images (bioformats2raw layout)."""
    return versioned(version, {"bioformats2raw.layout": 3})


def series_attributes(paths: Iterable[str], version: str) -> dict[str, Any]:
    """Return the attributes of the group ``OME``: which images there are."""
    return versioned(version, {"series": list(paths)})


def plate_attributes(
    plate: Mapping[str, Any], fields: Mapping[tuple[int, int], int], version: str
) -> dict[str, Any]:
    """Return the attributes of a plate.

    Parameters
    ----------
    plate : mapping
        As ``describe_plate`` returned it.
    fields : mapping
        Row and column of every well that has images → how many.
    version : str
        NGFF's.
    """
    rows, columns = plate["rows"], plate["columns"]
    content: dict[str, Any] = {
        "name": plate["name"],
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {"path": f"{rows[row]}/{columns[column]}", "rowIndex": row, "columnIndex": column}
            for row, column in sorted(fields)
        ],
        "field_count": max(fields.values(), default=0),
        "acquisitions": [{"id": 0, "maximumfieldcount": max(fields.values(), default=1)}],
        "version": version,
    }
    return versioned(version, {"plate": content})


def well_attributes(fields: Iterable[str], version: str) -> dict[str, Any]:
    """Return the attributes of a well with these fields."""
    images = [{"path": path, "acquisition": 0} for path in fields]
    return versioned(version, {"well": {"images": images, "version": version}})


def wells_of(folders: Iterable[str]) -> dict[str, list[str]]:
    """Return the fields of every well: ``["A/1/0", "A/1/1"]`` → ``{"A/1": ["0", "1"]}``."""
    wells: defaultdict[str, list[str]] = defaultdict(list)
    for folder in folders:
        well, field = folder.rsplit("/", 1)
        wells[well].append(field)
    return dict(wells)
