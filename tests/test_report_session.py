"""A session's folder has one page about all of its recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import useq

from engine import StampedEngine
from mda_writers import BigTiffWriter
from mda_writers.acquisition.acquisition import Acquisition
from mda_writers.recording.files import recording_path
from mda_writers.report.page import write_report_page
from mda_writers.report.session import MOST_RECORDINGS, open_session
from pages import read_page

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")


def recorded(path: Path, frames: int = 3) -> Path:
    writer = BigTiffWriter(path)
    writer.begin(16, 16)
    for n in range(frames):
        writer.add_frame(np.full((16, 16), n, np.uint8))
    writer.finish()
    return path


def session(core: CMMCorePlus, root: Path) -> Path:
    core.mda.set_engine(StampedEngine(core))
    with Acquisition(root, subject="M1", session=2, task="<i>rest</i>") as acquisition:
        acquisition.writer("meso", ".ome.tiff")
        acquisition.record(core, useq.MDASequence(time_plan={"interval": 0, "loops": 4}))
        pupil = acquisition.writer("pupil", ".ome.tiff")
        pupil.begin(16, 16)
        for n in range(5):
            pupil.add_frame(np.full((16, 16), n, np.uint8))
        pupil.finish()
        acquisition.note("a note with <b>markup</b>")
        acquisition.log("wheel", {"speed": 1.0})
    return acquisition.folder


def test_a_session_has_a_page_with_all_its_recordings(core: CMMCorePlus, tmp_path: Path) -> None:
    folder = session(core, tmp_path)
    file = write_report_page(folder)
    page = read_page(file)
    assert file == folder / "report.html"
    assert page.all("h1")[0].text == "Subject M1, session 2, task <i>rest</i>"
    assert not page.all("i") and not page.all("b")
    assert page.with_attribute("data-status", "finished")
    assert page.figure("recordings") == "2"
    assert page.figure("session_frames_written") == "9"
    (table,) = [t for t in page.all("table") if t.text.startswith("Recordings in")]
    devices = [row.all("td")[0].text for row in table.all("tr")[1:]]
    assert devices == ["meso", "pupil"]
    assert "a note with <b>markup</b>" in page.text
    assert "wheel" in page.text


def test_links_lead_to_each_recording(core: CMMCorePlus, tmp_path: Path) -> None:
    page = read_page(write_report_page(session(core, tmp_path)))
    anchors = [a.attributes["href"].removeprefix("#") for a in page.all("a")]
    named = [e.attributes["id"] for e in page.everything() if "id" in e.attributes]
    assert len(anchors) == 2
    assert sorted(anchors) == sorted(named)


def test_the_manifest_itself_can_be_given(core: CMMCorePlus, tmp_path: Path) -> None:
    folder = session(core, tmp_path)
    assert write_report_page(folder / "manifest.json") == folder / "report.html"


def test_sessions_that_share_a_folder_have_pages_of_their_own(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    folder = session(core, tmp_path)
    assert session(core, tmp_path) == folder
    recorded(folder / "of_nobody.ome.tiff")
    for name, run in (("manifest.json", ""), ("manifest-2.json", "_run-02")):
        found = open_session(folder / name)
        assert [path.name.split("_task-")[-1] for path in found.recordings] == [
            f"-i-rest--i-{run}_meso.ome.tiff",
            f"-i-rest--i-{run}_pupil.ome.tiff",
            "of_nobody.ome.tiff",
        ]
        assert list(found.devices.values()) == ["meso", "pupil"]
    assert write_report_page(folder / "manifest-2.json") == folder / "report-2.html"
    assert open_session(folder).problems[0].endswith("about every recording in the folder.")
    assert len(open_session(folder).recordings) == 5


def test_a_recording_that_goes_on_is_known_by_its_device(tmp_path: Path) -> None:
    with Acquisition(tmp_path, subject="M1", session=2, task="t") as acquisition:
        eye = acquisition.writer("eye", ".ome.tiff")
        eye.begin(16, 16)
        eye.add_frame(np.ones((16, 16), np.uint8))
        found = open_session(acquisition.folder)
        assert found.devices == {eye.path: "eye"}
        assert found.recordings == [eye.path]


def test_a_recording_that_the_manifest_names_and_that_is_gone_is_told(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    folder = session(core, tmp_path)
    for file in folder.rglob("*_pupil*"):
        file.unlink()
    page = read_page(write_report_page(folder))
    assert page.figure("recordings") == "1"
    (problem,) = [item.text for item in page.all("li") if "not there" in item.text]
    assert problem.startswith("pupil:")


def test_a_folder_without_a_manifest_has_a_page_of_what_lies_below_it(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    recorded(tmp_path / "a.ome.tiff")
    recorded(tmp_path / "deep" / "er" / "b.tif", 6)
    page = read_page(write_report_page(tmp_path))
    assert page.figure("recordings") == "2"
    assert page.figure("session_frames_written") == "9"
    assert [a.text for a in page.all("a")] == ["a.ome.tiff", "deep/er/b.tif"]


def test_a_store_is_not_searched_for_recordings(tmp_path: Path) -> None:
    recorded(tmp_path / "a.ome.tiff")
    (tmp_path / "b.ome.zarr").mkdir()
    recorded(tmp_path / "b.ome.zarr" / "inside.tif")
    assert open_session(tmp_path).recordings == [tmp_path / "a.ome.tiff"]


def test_a_damaged_manifest_leaves_the_recordings_to_look_at(tmp_path: Path) -> None:
    recorded(tmp_path / "a.ome.tiff")
    (tmp_path / "manifest.json").write_bytes(b'{"status":')
    page = read_page(write_report_page(tmp_path))
    assert page.figure("recordings") == "1"
    assert "not the manifest of a session" in page.text


def test_a_damaged_recording_does_not_keep_the_others_from_the_page(tmp_path: Path) -> None:
    recorded(tmp_path / "good.ome.tiff")
    recording_path(recorded(tmp_path / "bad.ome.tiff")).write_bytes(b"{")
    page = read_page(write_report_page(tmp_path))
    assert page.figure("recordings") == "2"
    assert page.figure("session_frames_written") == "3"
    assert "unreadable" in page.text
    assert "cut or altered" in page.text


def test_a_folder_of_very_many_recordings_is_cut_and_says_so(tmp_path: Path) -> None:
    for n in range(MOST_RECORDINGS + 5):
        recording_path(tmp_path / f"r{n:04d}.tif").write_bytes(b"{}")
    found = open_session(tmp_path)
    assert len(found.recordings) == MOST_RECORDINGS
    assert f"first {MOST_RECORDINGS}" in found.problems[0]
