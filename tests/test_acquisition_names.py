"""Names of a session: legal everywhere, unique before anything is written, shared by nobody."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from datetime import datetime
from itertools import combinations
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mda_writers import Acquisition, open_dataset
from mda_writers.acquisition.naming import BidsPaths, ReservedNames, SessionInfo
from mda_writers.errors import CorruptRecordingError
from mda_writers.model.names import fold
from mda_writers.recording.journal import sealed

if TYPE_CHECKING:
    from collections.abc import Iterable

STARTED = datetime(2026, 1, 2, 3, 4, 5)
SUFFIXES = (".ome.tiff", ".ome.zarr", ".tif", ".mp4", ".csv")

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

NASTY = ["con", "AUX", "meso", "MESO", "meso_1", "meso_p0", "a/b", "..", "a.", "_", "*?", " a "]
NASTY += [
    "µ",
    "ﬁ",
    "é",
    "e\u0301",
    "\u200b",
    "a\uff3fb",
    "🐭",
    "\ud800",
    "a\nb",
    "x" * 300,
    "鼠" * 99,
]
nasty = st.sampled_from(NASTY)
names = st.one_of(nasty, st.text(min_size=1, max_size=40))


def is_legal_on_windows(path: PurePath) -> bool:
    return all(
        part
        and not re.search(r'[<>:"/\\|?*\x00-\x1f]', part)
        and part[-1] not in " ."
        and not RESERVED.fullmatch(part.split(".")[0].strip())
        and len(part.encode()) + len("_frame_metadata.json") + len(".tmp") + 10 <= 255
        for part in path.parts
    )


def are_apart(paths: Iterable[Path]) -> bool:
    """Whether no two recordings can ever write a file of the same name."""
    for one, other in combinations([fold(str(path)) for path in paths], 2):
        if one == other or one.startswith(f"{other}_") or other.startswith(f"{one}_"):
            return False
        for suffix in SUFFIXES:
            a, b = one.removesuffix(suffix), other.removesuffix(suffix)
            if (a != one) and (b != other) and (a.startswith(f"{b}_") or b.startswith(f"{a}_")):
                return False
    return True


@given(names, names, names, st.lists(st.tuples(names, st.sampled_from(SUFFIXES)), max_size=6))
@settings(deadline=None, max_examples=150)
def test_default_names_are_legal_and_apart(
    subject: str, session: str, task: str, devices: list[tuple[str, str]]
) -> None:
    info = SessionInfo(subject, session, task, STARTED)
    reserved, root = ReservedNames(Path("/nowhere")), Path("/nowhere")
    found = [reserved.reserve(BidsPaths()(info, d, s, "func"), s) for d, s in devices]
    assert are_apart(found)
    for path, (_, suffix) in zip(found, devices, strict=True):
        relative = path.relative_to(root)
        assert is_legal_on_windows(relative), relative
        assert relative.name.endswith(suffix)
        assert relative.parts[0] == "data" and relative.parts[-2] == "func"
        assert relative.name.startswith("20260102_030405_sub-")


@given(st.lists(st.tuples(names, st.sampled_from(SUFFIXES)), max_size=8))
@settings(deadline=None, max_examples=150)
def test_names_of_any_policy_are_legal_and_apart(wanted: list[tuple[str, str]]) -> None:
    reserved, root = ReservedNames(Path("/nowhere")), Path("/nowhere")
    found = []
    for name, suffix in wanted:
        stem = re.sub(r"[/\0]|\.\.", "", name).encode(errors="ignore")[:150].decode(errors="ignore")
        found.append(reserved.reserve(PurePath("x", f"{stem}{suffix}"), suffix))
        assert found[-1].name.endswith(suffix)
        assert len(found[-1].name) > len(suffix)
        assert is_legal_on_windows(found[-1].relative_to(root))
    assert are_apart(found)


@given(st.lists(names, min_size=1, max_size=4))
@settings(deadline=None, max_examples=10)
def test_devices_of_any_name_keep_their_own_frames(devices: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Acquisition(
            folder, subject=f"a{devices[0]}", session=1, task=f"{devices[-1]}a"
        ) as acq:
            for number, device in enumerate(devices):
                writer = acq.writer(device, ".ome.tiff", direct=True)
                writer.begin(4, 4, sizes={"p": 2, "t": 1})  # two positions: files named after them
                for _ in range(2):
                    writer.add_frame(np.full((4, 4), number, np.uint8))
                acq.log(device, number)
        manifest = orjson.loads(acq.manifest_path.read_bytes())
        assert manifest["complete"], manifest["errors"]
        stored = Acquisition.open(acq.folder)
        found = [r for p in stored.manifest.producers if p.kind == "frames" for r in p.recordings]
        for number, recording in enumerate(found):
            assert recording.frames_written == 2
            with open_dataset(acq.folder / recording.folder / recording.name) as data:
                assert (data.read_image(p=1) == number).all()


def test_default_name_is_the_one_that_is_promised() -> None:
    info = SessionInfo("M1", "3", "rest", STARTED)
    assert BidsPaths()(info, "meso", ".ome.tiff", "func") == PurePath(
        "data/sub-M1/ses-03/func/20260102_030405_sub-M1_ses-03_task-rest_meso.ome.tiff"
    )
    assert BidsPaths()(info, "manifest", ".json", "") == PurePath(
        "data/sub-M1/ses-03/manifest.json"
    )


def test_number_goes_before_the_whole_suffix(tmp_path: Path) -> None:
    reserved = ReservedNames(tmp_path)
    names = [reserved.reserve(PurePath("cam.ome.tiff"), ".ome.tiff").name for _ in range(3)]
    assert names == ["cam.ome.tiff", "cam-2.ome.tiff", "cam-3.ome.tiff"]
    (tmp_path / "eye.ome.zarr").mkdir()
    assert reserved.reserve(PurePath("eye.ome.zarr"), ".ome.zarr").name == "eye-2.ome.zarr"
    (tmp_path / "old.mp4_frames.jsonl").touch()
    assert reserved.reserve(PurePath("old.mp4"), ".mp4").name == "old-2.mp4"


def test_device_named_like_anothers_position_gets_a_name_of_its_own(tmp_path: Path) -> None:
    reserved = ReservedNames(tmp_path)
    for first, second in (("cam", "cam_p0"), ("b_p0", "b")):
        taken = reserved.reserve(PurePath(f"{first}.ome.tiff"), ".ome.tiff")
        other = reserved.reserve(PurePath(f"{second}.ome.tiff"), ".ome.tiff")
        assert taken.name == f"{first}.ome.tiff"
        assert are_apart([taken, other])


@pytest.mark.parametrize("path", ["../out.tif", "/abs/out.tif", "out.png", "x" * 200 + ".tif", ""])
def test_policy_that_leaves_the_root_or_breaks_the_suffix_is_refused(
    path: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="policy"):
        ReservedNames(tmp_path).reserve(PurePath(path), ".tif")


def test_sessions_of_the_same_name_share_nothing(tmp_path: Path) -> None:
    sessions = [Acquisition(tmp_path, subject="M1", session=1, task="rest") for _ in range(3)]
    writers = [acq.writer("meso", ".ome.tiff", direct=True) for acq in sessions]
    for number, writer in enumerate(writers):
        writer.begin(4, 4)
        writer.add_frame(np.full((4, 4), number, np.uint8))
    for acq in sessions:
        acq.note("mine")
        acq.close()
    assert [acq.manifest_path.name for acq in sessions] == [
        "manifest.json",
        "manifest-2.json",
        "manifest-3.json",
    ]
    for number, acq in enumerate(sessions):
        session = Acquisition.open(acq.manifest_path)
        assert session.complete
        assert (session.dataset("meso").read_image(t=0) == number).all()
        assert len(session.notes) == 1
    with pytest.raises(ValueError, match=r"several sessions, manifest-2\.json"):
        Acquisition.open(tmp_path / "data" / "sub-M1" / "ses-01")


def test_processes_that_begin_at_once_get_sessions_of_their_own(tmp_path: Path) -> None:
    code = (
        "import sys; from mda_writers import Acquisition\n"
        "sys.stdin.readline()\n"
        "acq = Acquisition(sys.argv[1], subject='M1', session=1, task='rest')\n"
        "print(acq.manifest_path, acq.writer('meso', '.ome.tiff').path, sep='\\n')\n"
        "acq.close()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(2)]
    paths: list[str] = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        paths += child.communicate(timeout=60)[0].splitlines()
        assert child.returncode == 0
    assert len(set(paths)) == 4


def test_users_own_policy_decides_every_path(tmp_path: Path) -> None:
    def flat(info: SessionInfo, name: str, suffix: str, data_type: str) -> PurePath:
        return PurePath(f"{info.subject} {info.task}", f"{name}{suffix}")

    for _ in range(2):  # it leaves the run's number out: names are numbered for it
        with Acquisition(tmp_path, subject="M1", session=1, task="rest", paths=flat) as acq:
            acq.log("wheel", 1)
            eye = acq.writer("eye", ".ome.tiff", direct=True)
            eye.begin(4, 4)
            eye.add_frame(np.zeros((4, 4), np.uint8))
        assert Acquisition.open(acq.manifest_path).complete
    found = {path.name for path in (tmp_path / "M1 rest").iterdir()}
    names = ("eye{}.ome.tiff", "manifest{}.json", "notes{}.csv", "timestamps{}.csv", "wheel{}.csv")
    assert found >= {name.format(number) for name in names for number in ("", "-2")}


def test_file_name_leaves_room_for_what_is_written_beside_it(tmp_path: Path) -> None:
    with Acquisition(tmp_path, subject="鼠" * 99, session="s" * 99, task="t" * 99) as acq:
        writer = acq.writer("d" * 99, ".ome.tiff", direct=True)
        writer.begin(4, 4)
        writer.add_frame(np.zeros((4, 4), np.uint8))
    assert orjson.loads(acq.manifest_path.read_bytes())["complete"]
    assert orjson.loads(acq.manifest_path.read_bytes())["session"]["subject"] == "鼠" * 99


@pytest.mark.parametrize(
    ("given_name", "value"),
    [("M_01", "M-01"), ("con", "con"), ("a/b?", "a-b-"), (" x. ", "x"), ("...", "-"), ("鼠", "鼠")],
)
def test_subject_becomes_a_value_that_is_legal_in_a_name(given_name: str, value: str) -> None:
    path = BidsPaths()(SessionInfo(given_name, "1", "t", STARTED), "d", ".tif", "func")
    assert path.parts[1] == f"sub-{value}"


def test_policy_that_parts_files_from_their_manifest_is_refused(tmp_path: Path) -> None:
    def apart(info: SessionInfo, name: str, suffix: str, data_type: str) -> PurePath:
        return PurePath("about" if name == "manifest" else "data", f"{name}{suffix}")

    with pytest.raises(ValueError, match="the folder of its manifest"):
        Acquisition(tmp_path, subject="M1", session=1, task="rest", paths=apart)
    assert not list(tmp_path.iterdir())


ELSEWHERE = ["../victim.csv", "beh/../../victim.csv", "/etc/passwd", "C:x.csv", "C:/x.csv"]
ELSEWHERE += ["..\\victim.csv", "\\\\server\\x.csv", "beh//x.csv", "..", "a\0b"]


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("where", ["own file", "recording's file", "folder", "name", "log"])
def test_a_name_in_a_manifest_that_leads_elsewhere_is_never_followed(
    where: str, name: str, tmp_path: Path
) -> None:
    with Acquisition(tmp_path / "root", subject="M1", session=1, task="rest") as acq:
        acq.log("wheel", 1)
        eye = acq.writer("eye", ".ome.tiff", direct=True)
        eye.begin(4, 4)
        eye.add_frame(np.zeros((4, 4), np.uint8))
    (acq.folder.parent / "victim.csv").write_text("time,note\nnow,secret\n")
    manifest = orjson.loads(acq.manifest_path.read_bytes())
    del manifest["seal"]
    devices = {producer["device"]: producer["recordings"][0] for producer in manifest["producers"]}
    if where == "own file":
        manifest["files"][0]["path"] = name
    elif where == "recording's file":
        devices["eye"]["files"][0]["path"] = name
    else:
        which = devices["wheel" if where == "log" else "eye"]
        which["folder" if where == "folder" else "name"] = name
    acq.manifest_path.write_bytes(sealed(orjson.dumps(manifest)))
    with pytest.raises(CorruptRecordingError, match=r"altered\. It names the file"):
        Acquisition.open(acq.manifest_path)
