"""Names: whatever a user calls a position, files get names that every system takes."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import useq
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree
from ome_types import from_xml

from contracts.kind import on_record
from engine import StampedEngine
from mda_writers import (
    BigTiffWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    WriteError,
    open_dataset,
    record,
    verify,
)
from mda_writers.model.names import (
    MAX_NAME_LENGTH,
    fold,
    safe_name,
    split_suffix,
    unique_name,
    with_stem_suffix,
)
from stamps import check_stamp

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
RESERVED = {"CON", "PRN", "AUX", "NUL"} | {
    f"{d}{n}" for d in ("COM", "LPT") for n in "123456789¹²³"
}
LONG = MAX_NAME_LENGTH * 4

# all of unicode, and more of what file systems stumble over
hard = st.sampled_from(["/", "\\", ".", " ", ":", "\x00", "\n", "é", "e\u0301", "\u200d", "ß", "İ"])
words = st.sampled_from(["CON", "nul", "com1", "LPT9", "aux.txt", "..", "A", "a", "COM¹", "~"])
names = st.lists(hard | words | st.characters(), max_size=12).map("".join) | st.text(max_size=LONG)


@given(names)
@example("CON .txt")
@example("a" * 79 + " .")
@example("a\u200d\u0301")
@example("\ud800")
def test_safe_names_are_safe(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert not FORBIDDEN.search(safe)
    assert safe == safe.strip(" ") and not safe.endswith(".")
    assert safe not in (".", "..")
    assert safe.split(".")[0].strip(" ").upper() not in RESERVED
    assert len(safe.encode()) <= 2 * MAX_NAME_LENGTH + 1
    assert unicodedata.is_normalized("NFC", safe)


@given(names)
def test_safe_names_stay_as_they_are(name: str) -> None:
    assert safe_name(safe_name(name)) == safe_name(name)


@given(st.text("abcdefghijklmnopqrstuvwxyzäöüß日本語0123456789_-+", min_size=1, max_size=40))
def test_ordinary_names_are_kept(name: str) -> None:
    safe = safe_name(name)
    assert safe in (name, f"_{name}")


@given(st.lists(names, min_size=2, max_size=12))
@example(["A", "A", "A_1", "a", "a_1", "A_1_1"])
@example(["straße", "STRASSE", "é", "é", "É"])
def test_unique_names_are_unique_on_every_file_system(all_names: list[str]) -> None:
    taken: set[str] = set()
    found = []
    for name in all_names:
        found.append(unique_name(safe_name(name), taken))
        taken.add(fold(found[-1]))
    assert len(taken) == len(all_names)
    for alike in (str.lower, str.upper, str.casefold, decomposed):
        assert len({alike(name) for name in found}) == len(found)


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@given(st.text("abc._1é ", min_size=1), st.sampled_from([".ome.tiff", ".OME.TIF", ".tiff", ".mp4"]))
def test_numbers_are_put_before_the_whole_suffix(stem: str, suffix: str) -> None:
    if suffix.count(".") == 1 and stem.lower().endswith(".ome"):
        return
    path = with_stem_suffix(Path("folder") / f"{stem}{suffix}", "_1")
    assert path.name == f"{stem}_1{suffix}"
    assert split_suffix(f"{stem}{suffix}") == (stem, suffix)


HARD = ["\ufffe", "a\x00b\x1b", "\ud800", "x\udfff", "]]>", "\U0001fffe", "細" * 300, "é" * 300]

FORMATS = {
    "tiff": (BigTiffWriter, "a.ome.tiff", {}),
    "zlib": (BigTiffWriter, "a.ome.tif", {"compression": "zlib"}),
    "plain": (BigTiffWriter, "a.tif", {}),
    "zarr": (OMEZarrWriter, "a.ome.zarr", {}),
    "zarr-0.4": (OMEZarrWriter, "a.zarr", {"ngff_version": "0.4"}),
    "ffv1": (CV2Writer, "a.mkv", {"fourcc": "FFV1"}),
    "mp4": (CV2Writer, "a.mp4", {}),
    "avi": (CV2Writer, "a.avi", {"fourcc": "MJPG"}),
    "series": (TiffSeriesWriter, "a", {"ome": True}),
    "named": (TiffSeriesWriter, "a", {"template": "{channel}_{position}_{c}_{t}"}),
}


def check_readable(folder: Path, path: str) -> None:
    """Check that every description is XML, that it names files that exist, and all frames."""
    for file in folder.rglob("*"):
        text = b""
        if file.suffix in (".tif", ".tiff"):
            with tifffile.TiffFile(file) as tif:
                text = (tif.ome_metadata or "").encode()
        if file.suffix == ".xml":
            text = file.read_bytes()
        if text:
            from_xml(text)
            for uuid in etree.fromstring(text).iter("{*}UUID"):
                assert (file.parent / uuid.get("FileName")).exists()
    with open_dataset(path) as dataset:
        assert dataset.complete
        for index in dataset.image_coordinates:
            dataset.read_image(**index)
    assert verify(path, progress=False).ok


@pytest.mark.parametrize("kind", FORMATS)
def test_no_format_minds_the_names_of_channels_cameras_and_keys(kind: str, tmp_path: Path) -> None:
    make, file, options = FORMATS[kind]
    for number, name in enumerate(HARD):
        folder = tmp_path / str(number)
        with make(folder / file, **options) as writer:
            writer.begin(
                16,
                16,
                dtype="uint8",
                sizes={"p": 2, "t": 1, "c": 2},
                channels=[name, "x"],
                camera=name,
                metadata={name: name},
            )
            for _ in range(4):
                writer.add_frame(np.zeros((16, 16), np.uint8), metadata={name: name})
            report = writer.finish({name: name})
        check_readable(folder, report.path)


@pytest.mark.parametrize("kind", FORMATS)
def test_no_format_minds_the_names_of_positions(
    kind: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(StampedEngine(core))
    make, file, options = FORMATS[kind]
    sequence = useq.MDASequence(
        stage_positions=[useq.Position(x=n, y=0, name=name) for n, name in enumerate(HARD)],
        channels=["DAPI", "a\ufffe\ud800\x00"],
        metadata={name: name for name in HARD},
    )
    (report,) = record(core, sequence, make(tmp_path / file, **options), progress=False)
    check_readable(tmp_path, report.path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("letter", "length"), [("a", 199), ("細", 200), ("a", 201), ("細", 250)])
def test_a_name_that_fits_at_the_beginning_fits_at_the_end(
    length: int, letter: str, kind: str, tmp_path: Path
) -> None:
    make, file, options = FORMATS[kind]
    suffix = file[1:]
    stem = letter * ((length - len(suffix)) // len(letter.encode()))
    if length > 200 and suffix:
        with pytest.raises(ValueError, match="too long for a recording's name"):
            make(tmp_path / (stem + suffix), **options)
        assert not list(tmp_path.iterdir())
        return
    writer = make(tmp_path / (stem + suffix), **options)
    for _ in range(2):  # the second run's name is longer
        try:
            writer.begin(
                16, 16, dtype="uint8", sizes={"g": 2, "p": 2, "c": 2}, channels=["é" * 200, "x"]
            )
        except WriteError as error:
            assert "too long" in str(error)
            break
        for _ in range(8):
            writer.add_frame(np.zeros((16, 16), np.uint8))
        assert writer.finish().complete
        check_readable(tmp_path, writer.result().path)
    names = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in names if name.endswith(".tmp")]


POSITIONS = [
    "A/1",
    "A\\1",
    "A-1",
    "well",
    "Well",
    "CON",
    "end.",
    "end",
    "細胞" * 60,
    "細胞" * 61,
    "",
    "twice",
    "twice",
    "é",
    "é",
    "<&>\"'",
    "../../outside",
    "tab\tnew\nline",
]


def test_real_names_stay_in_metadata(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    sequence = useq.MDASequence(
        stage_positions=[useq.Position(x=n, y=0, name=name) for n, name in enumerate(POSITIONS)]
    )
    folder = tmp_path / "inner"
    (report,) = record(core, sequence, BigTiffWriter(folder / "exp.ome.tiff"), progress=False)
    assert report.complete
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    files = list(folder.glob("*.ome.tiff"))
    assert len({file.name.lower() for file in files}) == len(files) == len(POSITIONS)
    for frame in on_record(folder / "exp.ome.tiff"):
        name = POSITIONS[frame.index["p"]]
        file = folder / frame.ours["file"]
        assert len(f"{file.name}_frame_metadata.json".encode()) <= 255
        with tifffile.TiffFile(file) as tif:
            check_stamp(tif.pages[0].asarray(), frame.index)
            assert tif.ome_metadata is not None
            image = from_xml(tif.ome_metadata).images[0]
        # in XML attributes, line breaks and tabs are spaces; the sidecar has them as they are
        assert image.name == re.sub(r"\s", " ", name or f"p{frame.index['p']}")
        if name:
            assert frame.metadata["mda_event"]["pos_name"] == name
