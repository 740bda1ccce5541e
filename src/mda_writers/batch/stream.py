"""A recording on its way into another file: its plan, and its frames one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mda_writers.batch.stored_plan import CAMERAS, PLANNED, locator_of, sequence_of
from mda_writers.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mda_writers.model.frame import Frame
    from mda_writers.model.layout import Layout
    from mda_writers.model.report import RecordingReport
    from mda_writers.writers.mda_writer import MDAWriter

QUEUE_BYTES = 64 << 20
"""Bytes of frames that may wait for the disk: several jobs run at once."""


@dataclass(frozen=True, slots=True)
class FrameStream:
    """What a writer needs to make a recording again.

    Attributes
    ----------
    header : dict
        ``sequence`` and ``summary_metadata``, ``direct`` or ``planned_images``: the plan.
    layout : Layout
        What all images have in common; the images come from the plan.
    frames : iterator of Frame
        In the order in which they were taken; each is read when it is asked for.
    flags : sequence of bool or None
        Which of them were kept, if not all were.
    skipped : sequence of dict
        Indices of events that gave no frame.
    cut_short : bool
        Whether more was to come: the run was cancelled, failed, or was killed.
    """

    header: Mapping[str, Any]
    layout: Layout
    frames: Iterator[Frame]
    flags: Sequence[bool] | None = None
    skipped: Sequence[Mapping[str, int]] = field(default_factory=tuple)
    cut_short: bool = False


def write_stream(
    stream: FrameStream,
    new_writer: Callable[..., MDAWriter],
    path: Path,
    options: Mapping[str, Any],
) -> RecordingReport:
    """Write a recording of all frames of `stream`, and return its report.

    Names, times and metadata of the frames are those that they had. ``new_writer(path,
    **options)`` makes the writer, as the class of one does.

    Raises
    ------
    WriteError
        If writing failed.
    ValueError
        If the writer does not take one of the options, or not these frames.
    """
    flags = {} if stream.flags is None else {"save_frame": stream.flags}
    # with a core of its own, a failure cannot cancel what the microscope is doing meanwhile
    writer = new_writer(
        path, core=_NO_MICROSCOPE, **{"queue_bytes": QUEUE_BYTES, **flags, **options}
    )
    writer.current_sequence = sequence_of(stream.header)
    locator = locator_of(stream.header, path.name)
    writer._begin_run(locator, stream.layout, _described(stream.header))
    run = writer._current_run()
    run.tally.canceled = stream.cut_short
    run.tally.skipped += stream.skipped
    run.extra_metadata.update(stream.header.get("extra_metadata") or {})
    try:
        for frame in stream.frames:
            if run.failure is not None:
                raise run.failure
            run.put(frame)
    except BaseException as error:
        run.end_with(WriteError(f"{path}: ended by {type(error).__name__}: {error}"))
        raise
    finally:
        run.finish()
    return writer.result()


def _described(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a header describes the plan, not the file that it was of."""
    kept = ("sequence", "summary_metadata", "direct", PLANNED, CAMERAS)
    return {name: header[name] for name in kept if name in header}


class _Idle:
    """Stands for a runner that runs nothing."""

    def is_running(self) -> bool:
        return False

    def cancel(self) -> None:
        pass


class _NoMicroscope:
    mda = _Idle()


_NO_MICROSCOPE: Any = _NoMicroscope()
