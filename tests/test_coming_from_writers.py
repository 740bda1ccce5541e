"""docs/coming_from_writers.md: every line in its right column runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import useq

import mda_writers

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
