"""docs/coming_from_writers.md: every line in its right column runs."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import pytest
import useq

import mda_writers
from mda_writers import BigTiffWriter, CV2Writer, OMEZarrWriter, TiffSeriesWriter
from mda_writers.recording.sidecar import read_extra_metadata, read_sidecar
from mda_writers.report.page import write_report_page

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

PAGE = Path(__file__).parent.parent / "docs" / "coming_from_writers.md"
ROW = re.compile(r"^\| .+? \| `(.+)` \|$", re.MULTILINE)


def lines(section: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8").split(f"## From {section}")[1].split("\n## ")[0]
    return ROW.findall(text)


@pytest.fixture
def names(core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what the page's lines may use; they run in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    core.setROI(0, 0, 64, 48)
    public = {n: getattr(mda_writers, n) for n in mda_writers.__all__}
    sequence = useq.MDASequence(
        channels=["DAPI", "FITC"], time_plan=useq.TIntervalLoops(interval=0, loops=2)
    )
    return {**public, "core": core, "sequence": sequence, "json": json, "Path": Path}


def run(line: str, names: dict[str, Any]) -> Any:
    """Run a line, and return its value if it has one."""
    try:
        return eval(line, names)
    except SyntaxError:
        return exec(line, names)


def test_lines_for_users_of_pymmcore_plus(names: dict[str, Any]) -> None:
    found = lines("pymmcore-plus's own handlers")
    assert len(found) == 8
    writer = names["writer"] = mda_writers.BigTiffWriter("w.ome.tiff")
    mda_writers.record(names["core"], names["sequence"], writer, progress=False)
    values = [run(line, names) for line in found]
    assert values[4].shape == (48, 64)
    assert values[5].shape == (2, 2, 48, 64)
    assert len(values[6]["p0"]) == 4
    for name in ("a.ome.tiff", "b.ome.zarr", "c"):
        assert Path(name).exists()


def test_lines_for_users_of_mesofield(names: dict[str, Any]) -> None:
    found = lines("mesofield")
    assert len(found) == 7
    meso = run(found[0], names)
    mda_writers.record(names["core"], names["sequence"], meso, progress=False)
    assert run(found[1], names) > 0
    names["pupil"] = run(found[2], names)
    names["frame"] = np.zeros((48, 64), np.uint8)
    run(found[3], names)
    run(found[4], names)
    assert run(found[5], names).frames_written == 1
    run(found[6], names)
    assert list(Path("study").rglob("manifest.json"))


def test_lines_for_users_of_ams_bp(names: dict[str, Any]) -> None:
    found = lines("AMS_BP's saving module")
    assert len(found) == 4
    names["metadata"], names["outputparams"] = run(found[0], names), run(found[1], names)
    names["frames"] = np.zeros((10, 256, 256), np.uint16)
    run(found[2], names)
    run(found[3], names)
    assert Path("output/example.ome.tiff").exists()
    assert Path("any.ome.tiff").exists()


def as_mesofield_reads(path: Path) -> list[dict[str, Any]]:
    """Return the frames' rows as its parser of sidecars makes them."""
    table = pandas.DataFrame(json.loads(path.read_text())["p0"])
    return list(table.join(pandas.json_normalize(table["camera_metadata"])).to_dict("records"))


KINDS = {
    "pupil.mp4": CV2Writer,
    "pupil.ome.tiff": BigTiffWriter,
    "pupil.ome.zarr": OMEZarrWriter,
    "pupil": TiffSeriesWriter,
}


def polled(folder: Path, name: str, extra: dict[Any, Any], frames: int = 3) -> Path:
    """Record as mesofield's cameras do, and return the sidecar that its manifest names."""
    writer = KINDS[name](folder / name)
    writer.begin(64, 48, is_color=False)
    for _ in range(frames):
        writer.add_frame(np.zeros((48, 64), np.uint8))
    writer.finish(extra)
    sidecar = Path(writer._frame_metadata_filename)
    assert str(sidecar) == writer._filename + "_frame_metadata.json"
    assert sidecar in writer.paths
    return sidecar


@pytest.mark.parametrize("name", KINDS)
def test_what_is_said_at_the_end_stands_beside_the_frames(name: str, tmp_path: Path) -> None:
    extra = {"camera": "pupil", "timestamps": [0.1, 0.2], "settings": {"gain": np.float32(2)}, 7: 8}
    sidecar = polled(tmp_path, name, extra)
    content = json.loads(sidecar.read_bytes())
    assert {*content} == {"p0", "camera", "timestamps", "settings", "7"}
    assert content["settings"] == {"gain": 2.0}
    assert len(content["p0"]) == 3
    path = Path(str(sidecar).removesuffix("_frame_metadata.json"))
    assert mda_writers.verify(path).ok
    with mda_writers.open_dataset(path) as dataset:
        assert dataset.complete
        assert dataset.read_metadata(t=2)["mda_writers"]["number"] == 2
    assert mda_writers.recover(path).complete
    page = write_report_page(path)
    assert "pupil" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KINDS)
def test_frames_of_polled_cameras_have_the_time_that_parsers_look_for(
    name: str, tmp_path: Path
) -> None:
    before = datetime.now()
    rows = as_mesofield_reads(polled(tmp_path, name, {"camera": "pupil"}))
    times = [
        datetime.strptime(row["TimeReceivedByCore"], "%Y-%m-%d %H:%M:%S.%f")  # as MMCore has it
        for row in rows
    ]
    in_order = [before, *times, datetime.now()]
    assert len(times) == 3 and in_order == sorted(in_order)


def test_a_camera_that_has_its_own_time_of_receipt_keeps_it(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    writer.begin(8, 8)
    given = {"TimeReceivedByCore": "2025-05-31 09:26:07.964891", "gain": 1}
    writer.add_frame(np.zeros((8, 8), np.uint8), metadata={"camera_metadata": given})
    writer.add_frame(np.zeros((8, 8), np.uint8), metadata={"TimeReceivedByCore": "noon"})
    writer.add_frame(np.zeros((8, 8), np.uint8), metadata={"camera_metadata": {"gain": 2}})
    writer.add_frame(np.zeros((8, 8), np.uint8), metadata={"camera_metadata": "none"})
    writer.finish()
    one, two, three, four = writer.frame_metadatas["p0"]
    assert one["camera_metadata"] == given
    assert two["TimeReceivedByCore"] == "noon" and "camera_metadata" not in two
    assert three["camera_metadata"]["gain"] == 2 and len(three["camera_metadata"]) == 2
    assert four["camera_metadata"] == "none"


@pytest.mark.parametrize("name", KINDS)
def test_extra_metadata_with_the_name_of_a_position_loses_neither(
    name: str, tmp_path: Path
) -> None:
    extra = {"p0": "mine", "extra_metadata.p0": "mine, too", "p1": ["{", "["]}
    sidecar = polled(tmp_path, name, extra)
    content = json.loads(sidecar.read_bytes())
    assert len(content.pop("p0")) == 3
    assert sorted(map(str, content.values())) == sorted(["mine", "mine, too", "['{', '[']"])
    path = Path(str(sidecar).removesuffix("_frame_metadata.json"))
    report = json.loads(Path(f"{path}_recording.json").read_bytes())
    assert report["extra_metadata"] == extra
    with mda_writers.open_dataset(path) as dataset:
        assert dataset.read_metadata(t=1)["mda_writers"]["number"] == 1
    assert mda_writers.verify(path).ok


def test_extra_metadata_of_a_recording_without_frames_is_kept(tmp_path: Path) -> None:
    sidecar = polled(tmp_path, "pupil.mp4", {"camera": "pupil", "last": {"a": {}}}, frames=0)
    assert json.loads(sidecar.read_bytes()) == {"camera": "pupil", "last": {"a": {}}}
    assert list(read_sidecar(sidecar)) == []
    assert read_extra_metadata(sidecar) == {"camera": "pupil", "last": {"a": {}}}


@pytest.mark.parametrize("target", ["b.ome.tiff", "b.ome.zarr", "b.mkv"])
def test_extra_metadata_is_converted_with_the_frames(target: str, tmp_path: Path) -> None:
    sidecar = polled(tmp_path, "pupil.ome.tiff", {"camera": "pupil"})
    source = Path(str(sidecar).removesuffix("_frame_metadata.json"))
    mda_writers.convert(source, tmp_path / target, progress=False)
    content = json.loads((tmp_path / f"{target}_frame_metadata.json").read_bytes())
    assert content["camera"] == "pupil" and len(content["p0"]) == 3
    assert mda_writers.verify(tmp_path / target).ok


def test_recover_keeps_the_extra_metadata_of_a_process_killed_at_its_end(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "a.ome.tiff")
    writer.begin(8, 8)
    for _ in range(3):
        writer.add_frame(np.zeros((8, 8), np.uint8))
    run = writer._current_run()
    run.settle()
    journal = tmp_path / "a.ome.tiff_frames.jsonl"
    text = journal.read_bytes()
    writer.finish({"camera": "pupil", "settings": {"gain": {"red": 1}}})
    journal.write_bytes(text)  # the last moment before the report
    (tmp_path / "a.ome.tiff_recording.json").unlink()
    mda_writers.recover(tmp_path / "a.ome.tiff")
    content = json.loads((tmp_path / "a.ome.tiff_frame_metadata.json").read_bytes())
    assert content["settings"] == {"gain": {"red": 1}} and len(content["p0"]) == 3
    report = json.loads((tmp_path / "a.ome.tiff_recording.json").read_bytes())
    assert report["extra_metadata"]["camera"] == "pupil"
