"""Rows of CSV files: any value has a cell, and a row is whole or no row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mda_writers.model.encode import csv_cell, from_csv_cell

if TYPE_CHECKING:
    from pathlib import Path


def csv_line(values: Iterable[Any]) -> bytes:
    """Return one row with its newline, in UTF-8."""
    text = io.StringIO()
    # its default ends lines with CR LF (RFC 4180), and only so it quotes a text with a CR in it
    csv.writer(text).writerow([csv_cell(value) for value in values])
    return text.getvalue().encode()


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
            before = {_given(name): _given(text) for name, text in row.items()}
    if before is not None and whole:
        yield before


def _given(text: Any) -> Any:
    # more cells than columns make a list, fewer of them None
    return from_csv_cell(text) if isinstance(text, str) else text


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, io.SEEK_END) == 0:
            return False
        stream.seek(-1, io.SEEK_END)
        return stream.read(1) == b"\n"
