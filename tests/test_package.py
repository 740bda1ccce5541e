"""What is built from the checkout: a wheel that is complete, and the reference."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.xdist_group("wheel")  # which is built once


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", str(ROOT), "-w"]
    subprocess.run([*command, str(folder)], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_every_module_and_file_that_is_needed(wheel: zipfile.ZipFile) -> None:
    source = ROOT / "src" / "mda_writers"
    needed = {
        path.relative_to(source.parent).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    needed |= {
        f"mda_writers/mm_configs/{path.name}" for path in (ROOT / "mm_configs").glob("*.cfg")
    }
    assert needed <= set(wheel.namelist())
    assert "mda_writers/py.typed" in needed


def test_the_sdist_builds_the_same_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as built:
        assert contents(built) == contents(wheel)


def test_extras_have_what_they_promise_and_no_address_that_does_not_exist(
    wheel: zipfile.ZipFile,
) -> None:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(name))
    assert set(metadata.get_all("Provides-Extra", ())) == {
        *("bench", "cluster", "demo", "ndtiff", "s3", "test")
    }
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_reference_is_made_from_the_docstrings_as_they_are() -> None:
    script = ROOT / "docs" / "make_reference.py"
    code = f"import runpy; print(runpy.run_path({str(script)!r})['reference'](), end='')"
    command = [sys.executable, "-X", "utf8", "-c", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert done.stdout == written, "run `python docs/make_reference.py`"


def contents(wheel: zipfile.ZipFile) -> dict[str, bytes]:
    """Return what is in a wheel."""
    return {name: wheel.read(name) for name in wheel.namelist()}
