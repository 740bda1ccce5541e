"""What was measured, and the medians and ratios that are quoted from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contestant writing once, in a process of its own.

    Times of frames are None where the contestant takes frames from a camera of its own.
    """

    scenario: str
    contestant: str
    shape: tuple[int, int]
    n_planned: int
    n_frames: int = 0
    seconds: float = 0.0
    mb_per_s: float = 0.0
    frames_per_s: float = 0.0
    handover_p50_ms: float | None = None
    handover_p99_ms: float | None = None
    handover_max_ms: float | None = None
    first_tenth_ms: float | None = None
    last_tenth_ms: float | None = None
    finish_s: float | None = None
    cpu_s: float = 0.0
    peak_rss_mb: float = 0.0
    file_mb: float = 0.0
    intact: bool | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """What repeated runs have in common."""
        return self.scenario, self.n_planned, self.contestant

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the measurement that `asdict` and JSON made `values` of."""
        height, width = values["shape"]
        return cls(**{**values, "shape": (height, width)})


@dataclass(slots=True)
class BenchResult:
    """All measurements of a benchmark, the machine, and who could not take part."""

    machine: dict[str, str]
    measurements: list[Measurement] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    stores_metadata: dict[str, bool] = field(default_factory=dict)

    def medians(self) -> list[Measurement]:
        """Return the median of each contestant's successful runs, in the order they ran.

        Every number is a median of its own. A contestant of which one run was not intact is not
        intact; one without a successful run is returned with its error.
        """
        groups: dict[tuple[str, int, str], list[Measurement]] = {}
        for one in self.measurements:
            groups.setdefault(one.key, []).append(one)
        return [_median(group) for group in groups.values()]

    def ratio(self, one: Measurement, name: str) -> float | None:
        """Return the throughput of `one` over that of the contestant `name` in the same case."""
        for other in self.medians():
            if other.key == (one.scenario, one.n_planned, name) and other.mb_per_s:
                return one.mb_per_s / other.mb_per_s
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return everything, and the medians, ready for JSON."""
        return {**asdict(self), "medians": [asdict(one) for one in self.medians()]}

    def save_json(self, path: Path) -> None:
        """Write everything to `path`."""
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load_json(cls, path: Path) -> Self:
        """Return the result that `save_json` wrote."""
        values = json.loads(path.read_text())
        return cls(
            machine=values["machine"],
            measurements=[Measurement.from_dict(one) for one in values["measurements"]],
            unavailable=values["unavailable"],
            stores_metadata=values["stores_metadata"],
        )


def _median(group: list[Measurement]) -> Measurement:
    good = [one for one in group if one.error is None]
    if not good:
        return group[-1]
    names = [one.name for one in fields(Measurement)]
    return Measurement(
        **{name: _median_value([getattr(one, name) for one in good]) for name in names}
    )


def _median_value(values: list[Any]) -> Any:
    if isinstance(values[0], bool):
        return all(values)
    if isinstance(values[0], float) and None not in values:
        return median(values)
    if isinstance(values[0], int):
        return int(median(values))
    return values[0]
