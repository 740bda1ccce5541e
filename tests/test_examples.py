"""Every example runs, from top to bottom, on a machine with nothing but the demo devices."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

PRINTED = {
    "convert_on_a_cluster": r"mouse-3 \[\(5, 3, 256, 256\), \(5, 3, 128, 128\)\] complete",
    "event_driven": r"10 frames, complete: True",
    "film_with_opencv": r"[1-9]\d* frames in 3 s, complete: True",
    "mda_to_tiff": r"40 frames at .*, complete: True\n.*exp_left.ome.tiff\n.*exp_right.ome.tiff",
    "mda_to_zarr": r"54 frames at .*, complete: True\n(.*\n)*.*projected: \(3, 128, 128\)",
    "own_format": r"4 frames, intact: True\nFITC at the second position: 3\d\d\d\.\d",
    "session_with_notes": r"finished complete\n.*awake\n.*sleeps\n(.*\n)*<Dataset .*t: 20,.*comp",
    "three_formats_at_once": r"80 frames, complete: True\n(.*\n)*20 frames, complete: True",
    "two_cameras": r"TCYX \(5, 4, 512, 512\)",
    "watch_while_it_records": r"'t': 9, 'c': 'FITC'}: 3\d\d\d on average, 10.0 ms\ncomplete",
    "well_plate": r"plate_A1_0000.ome.tiff\n(.*\n)*.*plate_B1_0001.ome.tiff",
}
"""What each of them prints, when all of its frames are there."""


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_example_prints_what_it_found(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYMM_LOG_FILE": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert re.search(PRINTED[name], done.stdout), done.stdout


@pytest.mark.parametrize("name", PRINTED)
def test_example_is_short_enough_to_read(name: str) -> None:
    lines = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert 20 <= len(lines) <= (85 if name == "own_format" else 60)  # a whole format
