"""The package as it is installed: complete, typed, quick to import."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mda_writers

ROOT = Path(__file__).parent.parent


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


def test_every_public_name_is_there_and_described() -> None:
    for name in mda_writers.__all__:
        if name != "__version__":
            assert (getattr(mda_writers, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mda_writers.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("zarr", "dask", "cv2", "av", "pandas", "ome_types", "rich", "matplotlib")
    code = (
        "import sys, pymmcore_plus\n"
        "before = set(sys.modules)\n"
        "import mda_writers; mda_writers.BigTiffWriter; mda_writers.OMEZarrWriter\n"
        f"print([m for m in {heavy!r} if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_reference_is_made_from_the_docstrings_as_they_are() -> None:
    script = ROOT / "docs" / "make_reference.py"
    code = f"import runpy; print(runpy.run_path({str(script)!r})['reference'](), end='')"
    command = [sys.executable, "-X", "utf8", "-c", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert done.stdout == written, "run `python docs/make_reference.py`"
