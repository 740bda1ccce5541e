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
from mda_writers.sinks.seal import sealed
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
    ran_to_end: bool = False
    _begun: dict[IndexKey, int] = field(default_factory=dict)
    _last_begun: frozenset[IndexKey] = frozenset()

    def begin_events(self, indices: Iterable[Mapping[str, int]]) -> None:
        """Note that the runner began an event, or several at once; their frames are due."""
        self._last_begun = frozenset(frozenset(index.items()) for index in indices)
        self._begun.update(dict.fromkeys(self._last_begun, 0))

    def frame_came(self, index: Mapping[str, int], metadata: Mapping[str, Any]) -> None:
        """Note a frame: its event gave one, and the camera may have counted it."""
        self._begun.pop(_event_key(index), None)
        camera_metadata = metadata.get("camera_metadata")
        if camera_metadata:
            self._count_gap(str(metadata.get("camera_device")), camera_metadata)

    def events_without_frame(self) -> list[IndexKey]:
        """Return the indices of events that gave no frame while the run went on.

        What was begun last, in a run that was cut short, would perhaps have given its frames.
        """
        cut_off = frozenset() if self.ran_to_end else self._last_begun
        return [index for index in self._begun if index not in cut_off]

    @property
    def all_came(self) -> bool:
        """Whether every event was begun, and everything that was taken came to be written."""
        kept = self.frames_received - self.not_saved
        undisturbed = not (self.canceled or self.buffer_overflowed or self.error)
        return self.ran_to_end and undisturbed and self.frames_written == kept

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
    skipped, missing, count = _without_frame(locator, tally)
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
        "load": finished.load,
    }
    if extra_metadata:
        content["extra_metadata"] = dict(extra_metadata)
    replace_bytes(recording_path(path), sealed(to_json(content)) + b"\n")


def read_recording(path: Path) -> dict[str, Any]:
    """Return what `write_report` wrote for the recording at `path`."""
    content: dict[str, Any] = orjson.loads(recording_path(path).read_bytes())
    return content


def _without_frame(
    locator: Locator, tally: Tally
) -> tuple[list[dict[str, int]], list[dict[str, int]], int]:
    """Return the events that were skipped, the first missing frames, and how many are missing."""
    skipped = dict.fromkeys(tally.events_without_frame())
    if tally.all_came:
        # The events of a run's first milliseconds are not seen with output=, where the relay
        # is slower than the run. But all were begun: what has no frame was skipped.
        skipped |= dict.fromkeys(map(_event_key, locator.unwritten()))
    missing = (index for index in locator.unwritten() if _event_key(index) not in skipped)
    listed = list(islice(missing, MISSING_LISTED))
    named = [{str(a): i for a, i in sorted(key)} for key in islice(skipped, MISSING_LISTED)]
    return named, listed, len(listed) + sum(1 for _ in missing)


def _event_key(index: Mapping[str, int]) -> IndexKey:
    """Return the index of the event that commanded a frame: it asks all cameras at once."""
    return frozenset((axis, i) for axis, i in index.items() if axis != "cam")


def files_of(path: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of the recording at `path` whose images are called `names`.

    An image that is a folder lies in a Zarr store, whose own metadata belong to the recording, too:
    the store is named then, and not each of its images.
    """
    files = (path.parent / name for name in names)
    return list(dict.fromkeys(path if file.is_dir() else file for file in files))


def _existing(path: Path, finished: Finished) -> list[str]:
    files = files_of(path, (f for image in finished.layout.images for f in image.all_files))
    if "projections" in finished.header:
        files += sorted((path.parent / finished.header["projections"]).glob("P*"))
    files += [sidecar_path(path), recording_path(path)]
    # the sidecar has taken over by the time anybody reads this
    if not sidecar_path(path).exists():
        files.append(journal_path(path))
    return [str(file) for file in files if file.exists() or file == recording_path(path)]
