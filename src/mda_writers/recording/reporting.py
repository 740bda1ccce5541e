"""The report of a recording: built from what was counted, kept beside the recording."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mda_writers.model.encode import to_json
from mda_writers.model.report import MISSING_LISTED, RecordingReport
from mda_writers.sinks.sidecar import journal_path, recording_path, sidecar_path
from mda_writers.storage.atomic import replace_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mda_writers.model.locate import Locator
    from mda_writers.recording.finalize import Finished

IndexKey = frozenset[tuple[str, int]]


@dataclass(slots=True)
class Tally:
    """What is counted while frames come; filled by the hooks and, at the end, by the run."""

    frames_received: int = 0
    frames_written: int = 0
    not_saved: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    intervals_s: array[float] = field(default_factory=lambda: array("f"))
    canceled: bool = False
    buffer_overflowed: bool | None = None
    error: str = ""
    camera_gaps: int = 0
    _image_numbers: dict[str, int] = field(default_factory=dict)
    _begun: dict[IndexKey, int] = field(default_factory=dict)

    def begin_event(self, index: Mapping[str, int]) -> None:
        """Note that the runner began an event; its frames are due."""
        self._begun[frozenset(index.items())] = 0

    def frame_came(self, index: Mapping[str, int], metadata: Mapping[str, Any]) -> None:
        """Note a frame: its event gave one, and the camera may have counted it."""
        self._begun.pop(frozenset((a, i) for a, i in index.items() if a != "cam"), None)
        camera_metadata = metadata.get("camera_metadata")
        if camera_metadata:
            self._count_gap(str(metadata.get("camera_device")), camera_metadata)

    def events_without_frame(self) -> list[dict[str, int]]:
        """Return the indices of events that were begun and gave no frame."""
        return [{str(a): i for a, i in sorted(index)} for index in self._begun]

    def _count_gap(self, camera: str, camera_metadata: Mapping[str, Any]) -> None:
        """Compare the camera's own frame number with the one before (it restarts at 0)."""
        try:
            number = int(camera_metadata["ImageNumber"])
        except (KeyError, TypeError, ValueError):
            return
        before = self._image_numbers.get(camera, -1)
        if number > before + 1 and before >= 0:
            self.camera_gaps += number - before - 1
        self._image_numbers[camera] = number


def build_report(path: Path, finished: Finished, locator: Locator, tally: Tally) -> RecordingReport:
    """Return what became of the recording."""
    skipped = tally.events_without_frame()
    missing, count = _missing(locator.unwritten(), skipped)
    intervals = np.frombuffer(tally.intervals_s, np.float32) * 1e3
    written = tally.frames_written
    kept = tally.frames_received - tally.not_saved
    return RecordingReport(
        path=str(path),
        complete=written == kept and not (count or skipped or tally.error or tally.canceled),
        frames_expected=locator.frames_expected,
        frames_received=tally.frames_received,
        frames_written=written,
        not_saved=tally.not_saved,
        frames_missing=count,
        skipped=skipped,
        missing=missing,
        bytes_written=tally.bytes_written,
        seconds=tally.seconds,
        mb_per_s=tally.bytes_written / tally.seconds / 1e6 if tally.seconds else 0.0,
        interval_ms_median=float(np.median(intervals)) if len(intervals) else None,
        interval_ms_max=float(intervals.max()) if len(intervals) else None,
        camera_gaps=tally.camera_gaps,
        buffer_overflowed=tally.buffer_overflowed,
        canceled=tally.canceled,
        error=tally.error,
        paths=_existing(path, finished),
    )


def write_report(
    path: Path, report: RecordingReport, finished: Finished, extra_metadata: Mapping[str, Any]
) -> None:
    """Keep the report, the layout and the header beside the recording, for those who read it."""
    content = {
        **finished.header,
        "layout": finished.layout,
        "runs": finished.runs,
        "report": report,
    }
    if extra_metadata:
        content["extra_metadata"] = dict(extra_metadata)
    replace_bytes(recording_path(path), to_json(content) + b"\n")


def read_recording(path: Path) -> dict[str, Any]:
    """Return what `write_report` wrote for the recording at `path`."""
    content: dict[str, Any] = orjson.loads(recording_path(path).read_bytes())
    return content


def _missing(
    unwritten: Iterable[dict[str, int]], skipped: list[dict[str, int]]
) -> tuple[list[dict[str, int]], int]:
    """Return the first missing frames, and how many there are; skipped ones are not among them."""
    left_out = {frozenset(index.items()) for index in skipped}
    rest = (
        i
        for i in unwritten
        if frozenset((a, n) for a, n in i.items() if a != "cam") not in left_out
    )
    listed = list(islice(rest, MISSING_LISTED))
    return listed, len(listed) + sum(1 for _ in rest)


def _existing(path: Path, finished: Finished) -> list[str]:
    files = [path.parent / image.file for image in finished.layout.images]
    files += [sidecar_path(path), recording_path(path)]
    # the sidecar has taken over by the time anybody reads this
    if not sidecar_path(path).exists():
        files.append(journal_path(path))
    return [str(file) for file in files if file.exists() or file == recording_path(path)]
