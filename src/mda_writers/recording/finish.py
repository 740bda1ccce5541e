"""The end of a recording: final form of the files, sidecar, report."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from errno import ENOENT
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import CorruptRecordingError, MissingFramesError
from mda_writers.model.encode import to_json
from mda_writers.model.layout import PLANES_DESCRIBED, PlaneInfo, slot_of
from mda_writers.model.locate import readable
from mda_writers.model.names import OwnNames
from mda_writers.model.plan import NOT_RUN, RUN_MARK, takes_frame
from mda_writers.model.report import MISSING_LISTED, RecordingReport
from mda_writers.model.slots import BY_PLACE, run_lengths
from mda_writers.recording.files import journal_path, recording_path, sidecar_path
from mda_writers.recording.journal import SEALS, FileSeal, Journal, sealed
from mda_writers.storage.files import replace_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from useq import MDAEvent

    from mda_writers.formats.base import Format
    from mda_writers.model.layout import ImageLayout, Layout
    from mda_writers.model.locate import Locator


LINES_LISTED = 20
"""Altered lines that are named."""

IndexKey = frozenset[tuple[str, int]]

_FRAMES_NAMED = 5
"""Frames that an error names; its report lists more."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A recording whose files have their final form.

    Attributes
    ----------
    layout : Layout
        Its images, with their final sizes; those without a frame are not among them.
    header : dict
        What the journal's first line says.
    places : dict
        Key → the places of the frames that are on disk.
    runs : dict
        Key → the same in a few numbers, with where they lie (see ``recording/runs.py``).
    load : list of dict
        How full queue and disk were meanwhile (see ``recording/journal_writer.py``).
    seals : dict
        File → what it says besides pixels (see ``recording/journal.py``).
    problems : list of str
        What was found damaged: files that have no final form, lines of the journal.
    """

    layout: Layout
    header: dict[str, Any]
    places: dict[str, list[tuple[int, ...]]]
    runs: dict[str, list[list[int]]]
    load: list[dict[str, Any]] = field(default_factory=list)
    seals: dict[str, FileSeal] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def finish_files(path: Path, fmt: Format, *, damaged: bool = False) -> Finished:
    """Bring the files of the recording at `path` into their final form.

    What is done twice is done right: a finish that was itself killed can be repeated. What goes
    wrong with one file is raised when all others have their final form.

    Parameters
    ----------
    path : Path
        The recording's main path.
    fmt : Format
        How its files end.
    damaged : bool
        Whether files that cannot be read are left as they are, and told in `Finished.problems`.
    """
    journal = Journal.read(journal_path(path))
    planes: defaultdict[str, list[PlaneInfo]] = defaultdict(list)
    slots: defaultdict[str, list[int]] = defaultdict(list)
    ends: defaultdict[str, int] = defaultdict(int)
    for key, frame in journal.frames():
        ours = frame["mda_writers"]
        if not ours.get("saved", True) or key not in journal.images:
            continue
        slots[key].append(slot_of(ours, BY_PLACE))
        planes[key].append(_plane(frame, bare=len(planes[key]) >= PLANES_DESCRIBED))
        if "offset_bytes" in ours:
            end = ours["offset_bytes"] + journal.images[key].frame_bytes
            ends[ours["file"]] = max(ends[ours["file"]], end)
    images = tuple(
        replace(
            image,
            sizes=fmt.final_sizes(image, [plane.place for plane in planes[key]]),
            files=fmt.files_of(planes[key]),
        )
        for key, image in journal.images.items()
        if key in planes
    )
    layout = replace(journal.layout, images=_cut_channels(images))
    about = fmt.finish(path.parent, layout, planes, journal.planes_laid_out)
    for key, image in journal.images.items():
        # no other file names it any more; a line that is lost may be about it
        if key not in planes and not journal.altered:
            fmt.discard(path.parent / image.file)
    if damaged:
        _look_for_damage(path.parent, fmt, layout)
    problems = _problems(journal, fmt, damaged)
    places = {key: [plane.place for plane in some] for key, some in planes.items()}
    runs = {i.key: run_lengths(i.sizes, places[i.key], slots[i.key]) for i in images}
    return Finished(
        layout,
        {**journal.header, **(about or {})},
        places,
        runs,
        journal.load,
        _seals(path.parent, fmt, layout, journal.planes_laid_out, ends),
        problems,
    )


def _look_for_damage(folder: Path, fmt: Format, layout: Layout) -> None:
    """Find files whose final form is no better than what they were: they get no seal."""
    for image in layout.images:
        for name in image.all_files:
            if name in fmt.failures or not (folder / name).exists():
                continue
            with fmt.unfinished(name):
                if found := fmt.damage(folder / name, image):
                    raise CorruptRecordingError(found)


def _problems(journal: Journal, fmt: Format, damaged: bool) -> list[str]:
    """Return what was found damaged; raise what else kept a file from its final form."""
    for error in fmt.failures.values():
        if not damaged or (isinstance(error, OSError) and error.errno not in (None, ENOENT)):
            raise error
    found = [f"{file}: {error}" for file, error in fmt.failures.items()]
    if journal.altered:
        lines = ", ".join(map(str, journal.altered[:LINES_LISTED]))
        found.append(
            f"{journal.path.name}: {len(journal.altered)} altered lines were not taken for true "
            f"({lines}): the frames that they were about count as missing."
        )
    return found


def _seals(
    folder: Path,
    fmt: Format,
    layout: Layout,
    planes_laid_out: Mapping[str, int],
    ends: Mapping[str, int],
) -> dict[str, FileSeal]:
    seals = {}
    for image in layout.images:
        laid_out = planes_laid_out.get(image.key, 0)
        if not fmt.failures.keys().isdisjoint(image.all_files):
            continue
        # a file of a series may be elsewhere by now, and one that is damaged has no seal
        with suppress(FileNotFoundError, CorruptRecordingError, LookupError, ValueError):
            for name, pixels in fmt.described_files(folder, image, laid_out, ends):
                if name not in seals and (folder / name).exists():
                    seals[name] = FileSeal.of(folder / name, pixels)
    return seals


def _plane(frame: dict[str, Any], bare: bool) -> PlaneInfo:
    """Return what the files' final form needs of a frame; no more than its place, if `bare`."""
    if bare:
        ours = frame["mda_writers"]
        place, slot = tuple(ours["place"]), slot_of(ours, ours["number"])
        offset = ours.get("offset_bytes")
        return PlaneInfo(place, slot, file=ours.get("file", ""), offset_bytes=offset)
    return PlaneInfo.from_frame(frame)


def _cut_channels(images: tuple[ImageLayout, ...]) -> tuple[ImageLayout, ...]:
    return tuple(
        replace(image, channels=image.channels[: image.sizes.get("c", 1)]) for image in images
    )


def _events_of(event: MDAEvent) -> Sequence[MDAEvent]:
    """Return the events that a hardware-sequenced one stands for."""
    events: Sequence[MDAEvent] = getattr(event, "events", (event,))
    return events


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
    watched: bool = False
    skipped: list[Mapping[str, int]] = field(default_factory=list)
    lost: list[Mapping[str, int]] = field(default_factory=list)
    _begun: MDAEvent | None = None
    _came: list[Mapping[str, int]] = field(default_factory=list)

    def begin_event(self, event: MDAEvent) -> None:
        """Note that the runner began an event, or several at once; their frames are due."""
        self._settle_begun()
        self.watched = True
        self._begun = event if takes_frame(event) else None

    def frame_came(self, index: Mapping[str, int], metadata: Mapping[str, Any]) -> None:
        """Note a frame: its event gave one, and the camera may have counted it."""
        if self._begun is not None:
            self._came.append(index)
        camera_metadata = metadata.get("camera_metadata")
        if camera_metadata:
            self._count_gap(str(metadata.get("camera_device")), camera_metadata)

    def end_events(self) -> None:
        """Take in that no event follows.

        What was begun last, in a run that was cut short, would perhaps have given its frames:
        that is neither skipped nor lost.
        """
        if self.ran_to_end:
            self._settle_begun()
        self._begun = None

    def _settle_begun(self) -> None:
        """Note which frames of the event begun last did not come: the engine has gone on."""
        begun, came = self._begun, self._came
        if begun is None:
            return
        self._begun, self._came = None, []
        each = [event.index for event in _events_of(begun)]
        cameras = 1 + max([index.get("cam", 0) for index in came], default=0)
        if len(came) >= len(each) * cameras:
            return
        if begun.metadata.get(RUN_MARK) == NOT_RUN:
            self.skipped += each
            return
        due = [i if cameras == 1 else {**i, "cam": n} for i in each for n in range(cameras)]
        seen = Counter(frozenset(index.items()) for index in came)
        for index in due:
            key = frozenset(index.items())
            seen[key] -= 1
            if seen[key] < 0:
                self.lost.append(index)

    @property
    def all_came(self) -> bool:
        """Whether every event was begun, and everything that was taken came to be written."""
        kept = self.frames_received - self.not_saved
        undisturbed = not (self.canceled or self.buffer_overflowed or self.error)
        seen = self.ran_to_end and self.watched
        return seen and undisturbed and self.frames_written == kept

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


def lost_frames(report: RecordingReport, tally: Tally) -> MissingFramesError | None:
    """Return the error of a recording whose frames did not all come, though the run went on.

    None where the run was cancelled, or the engine raised what was wrong itself.
    """
    count = report.frames_missing if tally.ran_to_end else len(tally.lost)
    if not count:
        return None
    missing = report.missing if tally.ran_to_end else list(map(_plain, tally.lost))
    named = ", ".join(map(readable, missing[:_FRAMES_NAMED]))
    return MissingFramesError(
        f"{report.path}: {count} frame{'s' * (count > 1)} never came, though the acquisition "
        "engine went on: "
        f"{named}{', …' * (count > _FRAMES_NAMED)}. The {report.frames_written} others are on "
        "disk, each at its place, and the report lists what is missing. Acquire those again; if "
        "it happens often, lengthen the engine's time-outs or give it shorter hardware sequences.",
        missing[:MISSING_LISTED],
    )


def write_report(
    path: Path, report: RecordingReport, finished: Finished, extra_metadata: Mapping[str, Any]
) -> None:
    """Keep the report, the layout and the header beside the recording, for those who read it."""
    names = OwnNames.of(finished.header, path)
    images = tuple(map(names.image_then, finished.layout.images))
    sidecar = sidecar_path(path)
    seals = {names.inside_then(name): seal.entry for name, seal in finished.seals.items()}
    if sidecar.exists():
        seals[names.then(sidecar.name)] = FileSeal.of(sidecar).entry
    content = {
        **finished.header,
        "layout": replace(finished.layout, images=images),
        "runs": finished.runs,
        "report": report,
        "load": finished.load,
        SEALS: seals,
    }
    for video in finished.header.get("videos", ()):
        video["file"] = names.then(video["file"])
    if extra_metadata:
        content["extra_metadata"] = dict(extra_metadata)
    replace_bytes(recording_path(path), sealed(to_json(content)) + b"\n")


def _without_frame(
    locator: Locator, tally: Tally
) -> tuple[list[dict[str, int]], list[dict[str, int]], int]:
    """Return the events that were skipped, the first missing frames, and how many are missing."""
    lost = set(map(_event_key, tally.lost))
    skipped = dict.fromkeys(map(_event_key, tally.skipped))
    if tally.all_came:
        # all events were begun: what has no frame, and was not lost, the engine left out
        unwritten = map(_event_key, locator.unwritten())
        skipped |= dict.fromkeys(key for key in unwritten if key not in lost)
    missing = (index for index in locator.unwritten() if _event_key(index) not in skipped)
    if locator.open_ended:  # nothing was planned: what was begun is all that is known
        missing = (_plain(index) for index in tally.lost)
    listed = list(islice(missing, MISSING_LISTED))
    named = [{str(a): i for a, i in sorted(key)} for key in islice(skipped, MISSING_LISTED)]
    return named, listed, len(listed) + sum(1 for _ in missing)


def _plain(index: Mapping[str, int]) -> dict[str, int]:
    return {str(axis): i for axis, i in index.items()}


def _event_key(index: Mapping[str, int]) -> IndexKey:
    """Return the index of the event that commanded a frame: it asks all cameras at once."""
    return frozenset((axis, i) for axis, i in index.items() if axis != "cam")


def files_of(path: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of the recording at `path` whose images are called `names`.

    Images that lie in a folder of the recording's own name, as in a Zarr store, are not named one
    by one: the folder has more to it, and stands for all of them.
    """
    files = (path.parent / name for name in names)
    return list(dict.fromkeys(path if path in file.parents else file for file in files))


def _existing(path: Path, finished: Finished) -> list[str]:
    files = files_of(path, (f for image in finished.layout.images for f in image.all_files))
    if "projections" in finished.header:
        projections = OwnNames.of(finished.header, path).now(finished.header["projections"])
        files += sorted((path.parent / projections).glob("P*"))
    files += [sidecar_path(path), recording_path(path)]
    # the sidecar has taken over by the time anybody reads this
    if not sidecar_path(path).exists():
        files.append(journal_path(path))
    return [str(file) for file in files if file.exists() or file == recording_path(path)]
