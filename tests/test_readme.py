"""The README does what it says: its code runs, its links lead somewhere, its commands are two."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN_PAGES = ["coming_from.md", "coming_from_writers.md"]
"""Their rows are run by ``test_coming_from_writers.py`` and ``test_dataset_coming_from.py``."""

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def film(path: Path) -> None:
    """Write what the README's OpenCV camera sees."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for n in range(20):
        writer.write(np.full((48, 64, 3), n * 10, np.uint8))
    writer.release()


def test_the_code_runs_from_top_to_bottom(tmp_path: Path) -> None:
    film(tmp_path / "film.avi")
    # MMCore's own thread must end before Python does
    end = "\nsuper(CMMCorePlus, core).registerCallback(None)\n"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks("python")) + end],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYMM_LOG_FILE": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "exp.ome.tiff").exists()
    assert (tmp_path / "mouse.mp4").exists()


def test_there_are_two_commands_for_a_newcomer() -> None:
    commands = blocks("sh")
    assert len(commands) == 2
    assert "-m mda_writers demo" in commands[0]
    assert "-m pytest" in commands[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_row_of_coming_from_is_a_row_that_is_run() -> None:
    section = README.split("## Coming from")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .+ \| `.+` \|$", section, re.MULTILINE)
    run = "\n".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in RUN_PAGES)
    assert len(rows) == 15
    assert [row for row in rows if row not in run.splitlines()] == []


def test_files_that_are_named_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`(examples/[\w.]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
