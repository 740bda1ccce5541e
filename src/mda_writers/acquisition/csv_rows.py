"""Rows of CSV files: any value has a cell, and a row is whole or no row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.model.encode import to_json

if TYPE_CHECKING:
    from pathlib import Path


def csv_line(values: Iterable[Any]) -> bytes:
    """Return one row with its newline, in UTF-8."""
    text = io.StringIO()
    # its default ends lines with CR LF (RFC 4180), and only so it quotes a text with a CR in it
    csv.writer(text).writerow([cell(value) for value in values])
    return text.getvalue().encode("utf-8", "backslashreplace")


def cell(value: Any) -> str:
    """Return the text of one cell: numbers with all their digits, structures as JSON."""
    if value is None:
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes | bytearray):  # a line from a serial port, as a rule
        return bytes(value).decode("utf-8", "backslashreplace")
    return to_json(value).decode()


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """Return the rows of a file by column, one in memory at a time.

    The torn last row of a killed process is none.
    """
    whole = _ends_with_newline(path)
    before: dict[str, str] | None = None
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if before is not None:
                yield before
            before = row
    if before is not None and whole:
        yield before


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, io.SEEK_END) == 0:
            return False
        stream.seek(-1, io.SEEK_END)
        return stream.read(1) == b"\n"
