"""The package as it is installed: complete, typed, quick to import."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mda_writers

ROOT = Path(__file__).parent.parent

HEAVY = {
    *(
        "av",
        "cv2",
        "dask",
        "distributed",
        "fsspec",
        "lxml",
        "matplotlib",
        "moto",
        "multiprocessing",
    ),
    *("ome_types", "pandas", "pint", "rich", "tensorstore", "typer", "xarray", "zarr"),
}


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


def imported(code: str) -> set[str]:
    """Return the packages that a fresh interpreter has imported after `code`."""
    code = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_every_public_name_imports_nothing_heavy() -> None:
    names = ", ".join(name for name in mda_writers.__all__ if name != "__version__")
    ours = imported(f"import pymmcore_plus; from mda_writers import {names}")
    assert "mda_writers" in ours
    assert (ours - imported("import pymmcore_plus")) & HEAVY == set()


def test_recording_a_tiff_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """What is imported between the microscope and its first frame makes it wait."""
    code = (
        "import pymmcore_plus, numpy; from mda_writers import BigTiffWriter\n"
        f"writer = BigTiffWriter({str(tmp_path / 'x.ome.tiff')!r})\n"
        "writer.begin(16, 16); writer.add_frame(numpy.zeros((16, 16), 'uint8')); writer.finish()"
    )
    ours = imported(code)
    assert "tifffile" in ours
    assert (ours - imported("import pymmcore_plus")) & HEAVY == set()


def test_the_reference_is_made_from_the_docstrings_as_they_are() -> None:
    script = ROOT / "docs" / "make_reference.py"
    code = f"import runpy; print(runpy.run_path({str(script)!r})['reference'](), end='')"
    command = [sys.executable, "-X", "utf8", "-c", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert done.stdout == written, "run `python docs/make_reference.py`"
