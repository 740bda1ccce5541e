"""One thing that the demo tried, and how it went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, as a sentence, and whether it is what it should be."""

    text: str
    fine: bool
