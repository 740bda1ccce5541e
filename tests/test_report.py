"""The report page tells the truth about a recording, whatever state it is in."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import useq

from engine import StampedEngine
from mda_writers import BigTiffWriter, CV2Writer, OMEZarrWriter, TiffSeriesWriter, record
from mda_writers.recording.files import recording_path, sidecar_path
from mda_writers.recording.sidecar import read_sidecar
from mda_writers.report.facts import read_columns
from mda_writers.report.page import write_report_page
from pages import read_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from pages import Element

pytestmark = pytest.mark.usefixtures("no_thread_left")

SECTIONS = [
    "Images",
    "Frames",
    "Intervals between frames",
    "Throughput, queue and disk",
    "Pixel values",
    "Stage and focus drift",
    "Integrity",
    "Metadata",
]
NAUGHTY = "<script>document.title='broken in'</script>"


def own_loop(
    path: Path, frames: int = 20, *, of: Callable[[int], np.ndarray] | None = None, **options: Any
) -> Path:
    """Make a recording of a camera with a loop of its own; frame n is full of n by default."""
    writer = BigTiffWriter(path)
    writer.begin(32, 24, **options)
    for n in range(frames):
        frame = np.full((24, 32), n, np.uint8) if of is None else of(n)
        position = {"x": 0.5 * n, "y": 0.0, "z": -0.25 * (n == 7)}
        writer.add_frame(frame, metadata={"position": position})
    writer.finish()
    return path


def retimed(path: Path, times_s: Callable[[int], float]) -> Path:
    """Have frame n of the recording have come at `times_s(n)`."""
    frames: dict[str, list[dict[str, Any]]] = {}
    for key, frame in read_sidecar(sidecar_path(path)):
        frame["mda_writers"]["monotonic_s"] = 1000 + times_s(frame["mda_writers"]["number"])
        frames.setdefault(key, []).append(frame)
    parts = [
        orjson.dumps(key) + b": [\n" + b",\n".join(map(orjson.dumps, some)) + b"\n]"
        for key, some in frames.items()
    ]
    sidecar_path(path).write_bytes(b"{" + b",\n".join(parts) + b"}\n")
    return path


def report_of(path: Path, **options: Any) -> Element:
    return read_page(write_report_page(path, **options))


def three_positions(core: CMMCorePlus, path: Path, **options: Any) -> Path:
    """Record three positions, two channels, four time points; one has a name that is markup."""
    core.mda.set_engine(StampedEngine(core, **options))
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 4},
        channels=["DAPI", "FITC"],
        stage_positions=[
            {"x": 1, "y": 2, "z": 3, "name": NAUGHTY},
            {"x": 4, "y": 5, "z": 6, "name": 'B & "C"'},
            (7, 8, 9),
        ],
    )
    record(core, sequence, BigTiffWriter(path), progress=False)
    return path


# ---------------------------------------------------------------- what is on every page


def test_the_page_has_all_sections_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = own_loop(tmp_path / "exp.ome.tiff")
    file = write_report_page(path)
    page = read_page(file)
    assert file == tmp_path / "exp.ome.tiff_report.html"
    assert [h.text for h in page.all("h1")] == ["exp.ome.tiff"]
    assert [h.text for h in page.all("h2")] == SECTIONS
    for element in page.everything():
        for key in ("src", "href", "action", "data", "srcset"):
            assert element.attributes.get(key, "data:").startswith(("data:", "#")), element
    assert "http:" not in file.read_text() and "https:" not in file.read_text()
    assert [sorted(script.attributes) for script in page.all("script")] == [[]]


def test_people_who_cannot_see_the_page_are_told_what_is_on_it(tmp_path: Path) -> None:
    page = report_of(own_loop(tmp_path / "exp.ome.tiff"))
    assert page.all("html")[0].attributes["lang"] == "en"
    images = page.all("img")
    assert len(images) == 4
    assert all("frame" in image.attributes["alt"] for image in images)
    plots = [svg for svg in page.all("svg") if svg.attributes.get("role") == "img"]
    assert len(plots) >= 6
    assert all(len(plot.attributes["aria-label"]) > 20 for plot in plots)
    tables = page.all("table")
    assert len(tables) >= 5
    for table in tables:
        assert table.all("caption")[0].text
        assert all(cell.attributes["scope"] in ("col", "row") for cell in table.all("th"))
    for field in page.all("input"):
        assert any(field in label.all("input") for label in page.all("label"))


def test_names_that_are_markup_stay_names(core: CMMCorePlus, tmp_path: Path) -> None:
    page = report_of(three_positions(core, tmp_path / "exp & <b>.ome.tiff"))
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert page.all("h1")[0].text == "exp & <b>.ome.tiff"
    names = {cell.text for cell in page.all("th")}
    assert {NAUGHTY, 'B & "C"'} <= names
    assert any(NAUGHTY in image.attributes["alt"] for image in page.all("img"))


def test_control_characters_and_broken_letters_do_not_break_the_page(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff")
    writer.begin(8, 8, metadata={"note": "bell \x07 half \ud800 tab\t end"})
    writer.add_frame(np.zeros((8, 8), np.uint8))
    writer.finish()
    text = report_of(tmp_path / "exp.ome.tiff").text
    assert "bell \N{REPLACEMENT CHARACTER} half" in text


# ---------------------------------------------------------------- the right numbers


def test_frames_by_position_and_channel(core: CMMCorePlus, tmp_path: Path) -> None:
    page = report_of(three_positions(core, tmp_path / "exp.ome.tiff"))
    assert page.with_attribute("data-state", "complete")
    assert page.figure("frames_written") == page.figure("frames_expected") == "24"
    assert page.figure("frames_missing") == page.figure("frames_skipped") == "0"
    assert len(page.all("img")) == 3 * 2 * 4
    rows = next(t for t in page.all("table") if "Images of the rec" in t.text).all("tr")[1:]
    assert [row.all("td")[2].text for row in rows] == ["8", "8", "8"]
    assert [row.all("td")[4].text for row in rows] == ["1, 2, 3", "4, 5, 6", "7, 8, 9"]


def test_skipped_frames_are_counted_and_named(core: CMMCorePlus, tmp_path: Path) -> None:
    page = report_of(three_positions(core, tmp_path / "exp.ome.tiff", skip={3, 10}))
    assert page.with_attribute("data-state", "incomplete")
    assert page.figure("frames_written") == "22"
    assert page.figure("frames_skipped") == "2"
    (folded,) = [d for d in page.all("details") if d.text.startswith("Skipped frames")]
    assert len(folded.all("code")) == 2


def test_gaps_between_frames_are_marked(tmp_path: Path) -> None:
    path = own_loop(tmp_path / "exp.ome.tiff", 60)
    retimed(path, lambda n: 0.01 * n + 0.25 * (n >= 20) + 0.5 * (n >= 41))
    page = report_of(path)
    assert page.figure("gaps") == "2"
    assert float(page.figure("interval_ms_median")) == pytest.approx(10, rel=1e-3)
    assert float(page.figure("interval_ms_max")) == pytest.approx(510, rel=1e-3)
    (table,) = [t for t in page.all("table") if t.all("caption")[0].text == "Gaps"]
    assert [row.all("th")[0].text for row in table.all("tr")[1:]] == ["20", "41"]
    (marks,) = [p for p in page.all("path") if p.attributes["class"] == "dots warn"]
    assert marks.attributes["d"].count("M") == 2


def test_saturated_pixels_are_counted(tmp_path: Path) -> None:
    def frame(n: int) -> np.ndarray:
        pixels = np.full((24, 32), 100 + n, np.uint16)
        pixels[0, : 3 * (n >= 5)] = 65535
        return pixels

    page = report_of(own_loop(tmp_path / "exp.ome.tiff", 10, of=frame))
    assert page.figure("saturated") == "15"
    (table,) = [t for t in page.all("table") if "saturation" in t.all("caption")[0].text]
    cells = [cell.text for cell in table.all("td")]
    assert cells == ["100", "104", "65535", "65535", "65535", "15 (0.20%)", "5 of 10 looked at"]


def test_a_12_bit_camera_saturates_at_4095(core: CMMCorePlus, tmp_path: Path) -> None:
    engine = StampedEngine(core, dtype=np.uint16, bit_depth=12)
    core.mda.set_engine(engine)
    sequence = useq.MDASequence(time_plan={"interval": 0, "loops": 3})
    record(core, sequence, BigTiffWriter(tmp_path / "exp.ome.tiff"), progress=False)
    (table,) = [
        t
        for t in report_of(tmp_path / "exp.ome.tiff").all("table")
        if "saturation" in t.all("caption")[0].text
    ]
    assert table.all("td")[4].text == "4095"


def test_drift_of_the_stages_is_told(tmp_path: Path) -> None:
    page = report_of(own_loop(tmp_path / "exp.ome.tiff", 20))
    drift = [float(page.figure(f"drift_{axis}")) for axis in "xyz"]
    assert drift == [9.5, 0.0, 0.25]
    plots = [e.attributes.get("aria-label", e.text) for e in page.all("svg")]
    assert [letter for letter in "xyz" if any(f"stage {letter}" in p for p in plots)] == ["x", "z"]
    assert "No change at all of stage y." in page.text


def test_queue_and_disk_during_the_run_are_plotted(tmp_path: Path) -> None:
    path = own_loop(tmp_path / "exp.ome.tiff")
    load = orjson.loads(recording_path(path).read_bytes())["load"]
    assert load[0]["free_bytes"] > 0 and load[0]["queued_bytes"] >= 0
    captions = [caption.text for caption in report_of(path).all("figcaption")]
    for what in ("Frames handed over per second", "Frames waiting in memory", "Free disk space"):
        assert any(caption.startswith(what) for caption in captions), captions


def test_all_metadata_is_on_the_page(core: CMMCorePlus, tmp_path: Path) -> None:
    page = report_of(three_positions(core, tmp_path / "exp.ome.tiff"))
    rows = {row.all("th")[0].text: row.text for row in page.all("tr") if row.all("th")}
    header = orjson.loads(recording_path(tmp_path / "exp.ome.tiff").read_bytes())
    camera = next(
        (n, device)
        for n, device in enumerate(header["summary_metadata"]["devices"])
        if device["label"] == "Camera"
    )
    for prop in camera[1]["properties"]:
        name = f"devices › {camera[0]} Camera › properties › "
        found = [text for key, text in rows.items() if key.endswith(f"› {prop['name']}")]
        assert any(prop["value"] in text for text in found), (name, prop)
    assert header["set_id"] in page.text
    assert page.text.count('"xxh3_64"') == 24


# ---------------------------------------------------------------- every state


def test_a_running_recording_has_a_page(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff")
    writer.begin(32, 24, sizes={"t": 50})
    for n in range(7):
        writer.add_frame(np.full((24, 32), n, np.uint8))
    writer.isel(t=6)  # waits until all are on disk
    page = report_of(tmp_path / "exp.ome.tiff")
    assert page.with_attribute("data-state", "running")
    assert page.figure("frames_written") == "7"
    assert page.figure("frames_missing") == "43"
    assert page.with_attribute("data-integrity", "not verified")
    assert len(page.all("img")) == 4
    for n in range(7, 50):
        writer.add_frame(np.full((24, 32), n, np.uint8))
    writer.finish()
    assert report_of(tmp_path / "exp.ome.tiff").with_attribute("data-state", "complete")


def test_a_recording_that_ends_while_it_is_looked_at_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff")
    writer.begin(32, 24, sizes={"t": 3})
    for n in range(3):
        writer.add_frame(np.full((24, 32), n, np.uint8))

    def ending(frames: Any) -> Any:
        writer.finish()
        return read_columns(frames)

    monkeypatch.setattr("mda_writers.report.facts.read_columns", ending)
    page = report_of(tmp_path / "exp.ome.tiff")
    assert page.with_attribute("data-state", "complete")
    assert page.figure("frames_written") == "3"


KILLED = """
import os, sys, numpy as np
from mda_writers import BigTiffWriter
writer = BigTiffWriter(sys.argv[1])
writer.begin(32, 24, sizes={"t": 50})
for n in range(9):
    writer.add_frame(np.full((24, 32), n, np.uint8))
writer.isel(t=8)
os._exit(9)
"""


def test_an_interrupted_recording_has_a_page_and_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "exp.ome.tiff"
    child = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert child.returncode == 9
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    page = report_of(path, output=tmp_path / "page.html", verify=True)
    assert page.with_attribute("data-state", "interrupted")
    assert page.figure("frames_written") == "9"
    assert page.with_attribute("data-integrity", "intact")
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before


def test_a_flipped_byte_is_told_with_its_frame(tmp_path: Path) -> None:
    path = own_loop(tmp_path / "exp.ome.tiff")
    content = bytearray(path.read_bytes())
    content[4096 + 5 * 24 * 32 + 17] ^= 1
    path.write_bytes(content)
    page = report_of(path)
    assert page.with_attribute("data-integrity", "damaged")
    assert page.figure("frames_faulty") == "1"
    (table,) = [t for t in page.all("table") if t.all("caption")[0].text == "Frames"]
    assert [cell.text for cell in table.all("th")][-1] == "5"


def test_files_that_are_gone_or_cut_are_told(tmp_path: Path) -> None:
    cut, gone = own_loop(tmp_path / "cut.ome.tiff"), own_loop(tmp_path / "gone.ome.tiff")
    cut.write_bytes(cut.read_bytes()[:8000])
    gone.unlink()
    for path, why in ((cut, "cut off"), (gone, "missing")):
        page = report_of(path)
        assert page.with_attribute("data-integrity", "damaged")
        assert why in page.text
        assert page.figure("frames_written") == "20"


def test_a_sidecar_that_was_cut_is_told(tmp_path: Path) -> None:
    path = own_loop(tmp_path / "exp.ome.tiff")
    sidecar_path(path).write_bytes(sidecar_path(path).read_bytes()[:1500])
    page = report_of(path)
    assert "the file was cut" in page.text or "altered" in page.text
    assert page.figure("frames_written") == "20"


def test_a_recording_without_its_sidecar_says_so(tmp_path: Path) -> None:
    path = own_loop(tmp_path / "exp.ome.tiff")
    sidecar_path(path).unlink()
    page = report_of(path)
    assert "metadata of the frames could not be read" in page.text
    assert len(page.all("img")) == 4


def test_what_is_large_is_not_verified_unless_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mda_writers.report.facts.CHEAP_BYTES", 1000)
    path = own_loop(tmp_path / "exp.ome.tiff")
    assert report_of(path).with_attribute("data-integrity", "not verified")
    assert report_of(path, verify=True).with_attribute("data-integrity", "intact")


def test_nothing_to_report_on_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recording of mda-writers"):
        write_report_page(tmp_path)
    with pytest.raises(FileNotFoundError, match="no recording of mda-writers"):
        write_report_page(tmp_path / "exp.ome.tiff")
    own_loop(tmp_path / "other.ome.tiff")
    (tmp_path / "foreign.tif").write_bytes(b"II")
    with pytest.raises(FileNotFoundError, match=r"foreign\.tif: no recording of mda-writers"):
        write_report_page(tmp_path / "foreign.tif")


@pytest.mark.parametrize(
    ("writer", "name"),
    [
        (BigTiffWriter, "exp.tif"),
        (OMEZarrWriter, "exp.ome.zarr"),
        (CV2Writer, "exp.avi"),
        (TiffSeriesWriter, "exp"),
    ],
)
def test_every_format_has_its_page(writer: Any, name: str, tmp_path: Path) -> None:
    recording = writer(tmp_path / name)
    recording.begin(64, 48, sizes={"t": 4})
    for n in range(4):
        recording.add_frame(np.full((48, 64), 50 * n, np.uint8))
    recording.finish()
    page = report_of(tmp_path / name)
    assert page.with_attribute("data-state", "complete")
    assert page.with_attribute("data-integrity", "intact")
    assert len(page.all("img")) == 4
    assert "could not be read" not in page.text
    (files,) = [t for t in page.all("table") if t.text.startswith("Files in")]
    sizes = {row.all("th")[0].text: row.all("td")[0].text for row in files.all("tr")[1:]}
    assert "–" not in sizes.values() and "0 bytes" not in sizes.values()
    assert len(sizes) == 3  # a folder is one with all that is in it


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint32"])
def test_every_pixel_type_has_its_pictures(dtype: str, tmp_path: Path) -> None:
    path = own_loop(tmp_path / "exp.tif", 5, of=lambda n: np.full((24, 32), n - 2).astype(dtype))
    assert len(report_of(path).all("img")) == 4


def test_pixels_that_are_not_a_number_do_no_harm(tmp_path: Path) -> None:
    path = own_loop(
        tmp_path / "exp.tif", 5, of=lambda n: np.full((24, 32), np.nan if n < 4 else n, "f4")
    )
    assert len(report_of(path).all("img")) == 4


def test_colour_has_its_pictures(tmp_path: Path) -> None:
    path = own_loop(
        tmp_path / "exp.ome.tiff", 3, of=lambda n: np.full((24, 32, 3), (250, 5, n), np.uint8)
    )
    assert len(report_of(path).all("img")) == 4


def test_single_frames_stand_side_by_side_and_can_be_compared(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "exp.ome.tiff")
    writer.begin(32, 24, sizes={"p": 3, "c": 2}, channels=["A", "B"])
    for n in range(6):
        writer.add_frame(np.full((24, 32), 10 * n, np.uint8))
    writer.finish()
    page = report_of(tmp_path / "exp.ome.tiff")
    (row,) = [e for e in page.all("div") if e.attributes.get("class") == "thumbs"]
    captions = [figure.all("figcaption")[0].text for figure in row.all("figure")]
    contrast = {"A": "0 – 40", "B": "10 – 50"}  # of all frames of that channel
    assert captions == [f"p{p} · {c}{contrast[c]}" for p in range(3) for c in "AB"]


def test_one_frame_is_enough_for_a_page(tmp_path: Path) -> None:
    page = report_of(own_loop(tmp_path / "exp.ome.tiff", 1))
    assert page.figure("frames_written") == "1"
    assert len(page.all("img")) == 1
    assert "not enough frames" in page.text
