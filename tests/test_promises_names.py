"""Names: whatever a user calls a position, files get names that every system takes."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tifffile
import useq
from hypothesis import example, given
from hypothesis import strategies as st
from ome_types import from_xml

from engine import StampedEngine
from mda_writers import BigTiffWriter, record
from mda_writers.model.names import (
    MAX_NAME_LENGTH,
    fold,
    safe_name,
    split_suffix,
    unique_name,
    with_stem_suffix,
)
from promises.kind import on_record
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
