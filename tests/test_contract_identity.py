"""Any plan, any order of events, any subset of them: each frame is where its event says.

Hypothesis makes up the plans; the hooks are called by hand, in its order; tifffile reads the
files, once plane by plane as the sidecar tells, and once by axes as the OME-XML tells.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import orjson
import pytest
import tifffile
import useq
from hypothesis import HealthCheck, assume, example, given, note, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pymmcore_plus.mda._runner import GeneratorMDASequence

from contracts.kind import on_record
from mda_writers import BigTiffWriter, record, recover, verify
from plans import PLANS, REPEATING_PLANS, engine_for
from stamps import check_stamp, stamp
from tiff_reading import read_first_series

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from mda_writers.model.report import RecordingReport

pytestmark = pytest.mark.usefixtures("no_thread_left")

SHAPE = (16, 16)
NUMBERS = st.integers(0, 3)
MANY = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def summary(cameras: int) -> dict[str, Any]:
    """Return what the core would say about so many cameras of one size."""
    info = {"plane_shape": SHAPE, "dtype": "uint16", "pixel_size_um": 0.5}
    if cameras == 1:
        return {"image_infos": [{**info, "camera_label": "Cam"}]}
    behind = [{**info, "camera_label": f"Cam-{n}"} for n in range(cameras)]
    multi = {**info, "camera_label": "Multi", "num_camera_adapter_channels": cameras}
    return {"image_infos": [multi, *behind]}


def save(
    folder: Path, sequence: Any, indices: list[dict[str, int]], events: Any, cameras: int
) -> RecordingReport:
    """Send frames through the hooks; each is stamped with its index and its number."""
    writer = BigTiffWriter(folder / "exp.ome.tiff")
    writer.sequenceStarted(sequence, summary(cameras))
    for number, (index, event) in enumerate(zip(indices, events, strict=True)):
        pixels = stamp({**index, "n": number}, SHAPE, "uint16")
        writer.frameReady(pixels, event.model_copy(update={"index": index}), {"mda_event": event})
    writer.sequenceFinished(sequence)
    return writer.result()


def check(folder: Path, indices: list[dict[str, int]]) -> None:
    """Check every frame by its plane, and by its place along the axes of its image."""
    frames = on_record(folder / "exp.ome.tiff")
    assert len(frames) == len(indices)
    files = {frame.ours["file"] for frame in frames}
    assert files == {file.name for file in folder.glob("*.tiff")}
    places = set()
    for file in files:
        with tifffile.TiffFile(folder / file) as tif:
            pages = [page.asarray() for page in tif.pages]
        with tifffile.TiffFile(folder / file) as tif:
            whole, axes = read_first_series(tif)
        for frame in (f for f in frames if f.ours["file"] == file):
            number = frame.ours["number"]
            assert frame.index == indices[number]
            wanted = {**indices[number], "n": number}
            check_stamp(pages[frame.ours["ifd"]], wanted)
            place = dict(zip(sizes_of(folder)[frame.key], frame.ours["place"], strict=True))
            outer = axes[: axes.index("Y")]
            found = whole[tuple(place.get(axis.lower(), 0) for axis in outer)]
            check_stamp(found.reshape(SHAPE), wanted)
            places.add((file, *frame.ours["place"]))
    assert len(places) == len(frames)


def sizes_of(folder: Path) -> dict[str, list[str]]:
    """Return the axes of each image, in the order of its places."""

    content = orjson.loads((folder / "exp.ome.tiff_recording.json").read_bytes())
    return {image["key"]: list(image["sizes"]) for image in content["layout"]["images"]}


# ------------------------------------------------------------------- events of unknown number


@st.composite
def loose_events(draw: st.DrawFn) -> tuple[list[dict[str, int]], int]:
    """Return indices in any order, with any axes, the same ones perhaps twice."""
    cameras = draw(st.integers(1, 2))
    axes = draw(st.sets(st.sampled_from(["t", "c", "z", "p", "g"])))
    every = st.fixed_dictionaries(dict.fromkeys(sorted(axes), NUMBERS))
    some = st.dictionaries(st.sampled_from(["t", "c", "z", "p", "g"]), NUMBERS)
    indices = draw(st.lists(draw(st.sampled_from([every, some])), min_size=1, max_size=25))
    if cameras == 1:
        return indices, cameras
    return [{**index, "cam": cam} for index in indices for cam in range(cameras)], cameras


@MANY
@given(loose_events())
@example(([{"z": 2}, {"z": 0}, {"z": 1}], 1))
@example(([{}, {}, {"t": 1}], 1))
@example(([{"t": 3, "cam": 1}, {"t": 0, "cam": 0}], 2))
def test_events_of_unknown_number_keep_their_identity(
    drawn: tuple[list[dict[str, int]], int],
) -> None:
    indices, cameras = drawn
    events = [useq.MDAEvent(index={a: i for a, i in x.items() if a != "cam"}) for x in indices]
    with tempfile.TemporaryDirectory() as name:
        report = save(Path(name), GeneratorMDASequence(), indices, events, cameras)
        assert (report.complete, report.frames_expected) == (True, None)
        assert report.frames_written == len(indices)
        check(Path(name), indices)
        assert verify(Path(name) / "exp.ome.tiff", progress=False).ok


# ------------------------------------------------------------------- plans

channels = st.builds(
    lambda config, every, stack: {"config": config, "acquire_every": every, "do_stack": stack},
    st.sampled_from(["DAPI", "FITC", "Cy5"]),
    st.integers(1, 3),
    st.booleans(),
)
z_plans = st.none() | st.builds(lambda n: {"range": n, "step": 1}, st.integers(1, 3))
grids = st.none() | st.builds(
    lambda rows, columns: {"rows": rows, "columns": columns, "fov_width": 8, "fov_height": 8},
    st.integers(1, 2),
    st.integers(1, 2),
)


@st.composite
def positions(draw: st.DrawFn) -> dict[str, Any]:
    position: dict[str, Any] = {"x": draw(NUMBERS), "y": 0, "z": 1}
    if draw(st.booleans()):
        position["name"] = draw(st.sampled_from(["A", "a", "B/1", "A"]))
    if draw(st.booleans()):
        inner = {"z_plan": draw(z_plans), "grid_plan": draw(grids)}
        position["sequence"] = {key: plan for key, plan in inner.items() if plan}
    return position


@st.composite
def plans(draw: st.DrawFn) -> useq.MDASequence:
    fields = {
        "axis_order": "".join(draw(st.permutations("tpgcz"))),
        "time_plan": draw(
            st.none() | st.builds(lambda n: {"interval": 0, "loops": n}, st.integers(1, 4))
        ),
        "stage_positions": draw(st.lists(positions(), max_size=3)),
        "channels": draw(st.lists(channels, max_size=3, unique_by=lambda c: c["config"])),
        "z_plan": draw(z_plans),
        "grid_plan": draw(grids),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # useq warns about some orders, and runs them
        try:
            sequence = useq.MDASequence(**{key: plan for key, plan in fields.items() if plan})
            assume(1 <= len(list(sequence)) <= 100)
        except (ValidationError, ValueError):
            assume(False)  # useq itself does not take every combination
        return sequence


@MANY
@given(plans(), st.integers(1, 2), st.randoms(use_true_random=False), st.booleans())
def test_plans_keep_their_identity_in_any_order(
    sequence: useq.MDASequence, cameras: int, random: Any, whole: bool
) -> None:
    note(sequence.yaml())
    events = list(sequence)
    planned = len(events) * cameras
    if not whole:
        random.shuffle(events)
        events = events[: random.randint(1, len(events))]
    sent = [(event, cam) for event in events for cam in range(cameras)]
    indices = [index_of(event, cam, cameras) for event, cam in sent]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = save(folder, sequence, indices, [event for event, _ in sent], cameras)
        assert (report.frames_expected, report.frames_written) == (planned, len(indices))
        assert report.frames_missing + len(report.skipped) * cameras == planned - len(indices)
        assert report.complete is (planned == len(indices))
        check(folder, indices)
        assert verify(folder / "exp.ome.tiff", progress=False).ok is report.complete


def index_of(event: useq.MDAEvent, cam: int, cameras: int) -> dict[str, int]:
    index = {str(axis): int(i) for axis, i in event.index.items()}
    return index if cameras == 1 else {**index, "cam": cam}


@settings(MANY, max_examples=20)
@given(plans(), st.integers(1, 2), st.floats(0, 1))
def test_recovered_plans_are_what_a_cancelled_run_is(
    sequence: useq.MDASequence, cameras: int, share: float
) -> None:
    """The journal alone gives the files and the missing frames that the writer itself gives."""

    sent = [(event, cam) for event in sequence for cam in range(cameras)]
    sent = sent[: max(1, int(share * len(sent)))]
    with tempfile.TemporaryDirectory() as name:
        live, torn = Path(name) / "live", Path(name) / "torn"
        writer = BigTiffWriter(live / "exp.ome.tiff")
        writer.sequenceStarted(sequence, summary(cameras))
        for number, (event, cam) in enumerate(sent):
            index = index_of(event, cam, cameras)
            pixels = stamp({**index, "n": number}, SHAPE, "uint16")
            writer.frameReady(
                pixels, event.model_copy(update={"index": index}), {"mda_event": event}
            )
        assert sum(map(len, writer.frame_metadatas.values())) == len(sent)  # all are on disk
        shutil.copytree(live, torn)
        writer.sequenceFinished(sequence)
        normal, recovered = writer.result(), recover(torn / "exp.ome.tiff")
        assert recovered.missing == normal.missing
        assert recovered.frames_expected == normal.frames_expected
        assert recovered.frames_written == normal.frames_written == len(sent)
        for file in live.iterdir():
            if not file.name.endswith("_recording.json"):
                assert same(torn / file.name, file), file.name
        assert len(list(live.iterdir())) == len(list(torn.iterdir()))


class CopiedBeforeTheEnd(BigTiffWriter):
    """Leaves a copy of the recording as it would be if the process were killed at its end."""

    def sequenceFinished(self, seq: Any) -> None:
        if self.paths:
            assert self.frame_metadatas is not None  # returns when all frames are on disk
            shutil.copytree(self.path.parent, self.path.parent.with_name("torn"))
        super().sequenceFinished(seq)


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_every_named_plan_is_recovered(every: int, core: CMMCorePlus, tmp_path: Path) -> None:
    plans = [plan for plan in (*PLANS, *REPEATING_PLANS) if plan.name != "no_events"]
    special = [plan for plan in plans if plan.name == "with_a_setup_event"]
    for plan in dict.fromkeys([*plans[::every], *special]):
        core.mda.set_engine(engine_for(plan, core))
        folder = tmp_path / plan.name
        writer = CopiedBeforeTheEnd(folder / "live" / "exp.ome.tiff")
        (normal,) = record(core, plan.events(), writer, progress=False)
        recovered = recover(folder / "torn" / "exp.ome.tiff")
        # what was skipped and what is missing cannot be told apart by the journal
        gone = [*normal.missing, *normal.skipped]
        assert recovered.frames_written == normal.frames_written, plan.name
        assert recovered.frames_expected == normal.frames_expected, plan.name
        assert (len(recovered.missing) >= len(gone)) and (bool(recovered.missing) == bool(gone))
        assert verify(folder / "torn" / "exp.ome.tiff", progress=False).intact, plan.name
        for file in (folder / "live").iterdir():
            if not file.name.endswith("_recording.json"):
                assert same(folder / "torn" / file.name, file), f"{plan.name}: {file.name}"


def same(one: Path, other: Path) -> bool:
    """Whether two files are the same but for the white space in their XML."""
    if one.read_bytes() == other.read_bytes():
        return True
    pixels = [tifffile.imread(file) for file in (one, other)]
    texts = [tifffile.tiffcomment(file) for file in (one, other)]
    a, b = (ElementTree.canonicalize(text, strip_text=True) for text in texts)
    return np.array_equal(*pixels) and a == b
