"""The part of the page about drift: how the stages moved away from where they were first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mda_writers.report.axis import Axis, time_axis
from mda_writers.report.drift import Drift, drift_of
from mda_writers.report.html import Html, el, join, number
from mda_writers.report.plot import plot, thinned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mda_writers.report.facts import Facts


def drift_section(facts: Facts, heading: str) -> Html:
    """Return how the stages moved away from where they were first."""
    drift = drift_of(facts.frames)
    title = el(heading, "Stage and focus drift")
    if not drift.axes:
        return el(
            "section",
            title,
            el(
                "p",
                "No stage position came with the frames (hardware-triggered sequences and cameras "
                "with a loop of their own bring none).",
                class_="soft",
            ),
        )
    return el(
        "section",
        title,
        *_changes(facts, drift),
        el(
            "p",
            "Difference from the first frame at the same position, plane and channel, as the "
            f"stages told it; {drift.asked:,} of {len(facts.frames):,} frames have a position.",
            class_="note",
        ),
    )


def _changes(facts: Facts, drift: Drift) -> Iterator[Html]:
    """Return a plot of each axis that moved, and a line about those that did not."""
    moved = [axis for axis in drift.axes if drift.largest_um(axis)]
    still = [axis for axis in drift.axes if axis not in moved]
    if moved:
        yield el("div", *(_drift_figure(facts, drift, axis) for axis in moved), class_="pair")
    if still:
        letters = [number(0.0, "xyz"[axis], data_figure=f"drift_{'xyz'[axis]}") for axis in still]
        yield el("p", "No change at all of stage ", join(letters, ", "), ".")


def _drift_figure(facts: Facts, drift: Drift, axis: int) -> Html:
    x_axis, unit = time_axis(facts.timing.duration_s)
    change = drift.change_um[:, axis]
    largest = drift.largest_um(axis)
    letter = "xyz"[axis]
    marks = [thinned(drift.time_s / unit, change, "dots", f"s{axis}")]
    title = f"Change of stage {letter}"
    return el(
        "figure",
        plot(title, f"At most {largest:.3g} µm.", x_axis, Axis.around(change, "µm"), marks),
        el(
            "figcaption",
            el("strong", title),
            " at most ",
            number(largest, f"{largest:.3g} µm", data_figure=f"drift_{letter}"),
        ),
    )
