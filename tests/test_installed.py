"""The package as it is installed, from a wheel or in a checkout: quick, typed, found by others."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import mda_writers
from conftest import MM_CONFIGS

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

CONSUMER = """
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from pymmcore_plus import CMMCorePlus

from mda_writers import (
    Acquisition, BigTiffWriter, CustomWriter, CV2Writer, Dataset, DiskFullError, MaxProjection,
    MetaData, OMEZarrWriter, OutputParameters, TiffSeriesWriter, WriteError, video_codecs, convert,
    open_dataset, record, recover, save_array, save_config_frames, verify,
)


def acquire(core: CMMCorePlus, events: list[Any], folder: Path) -> Sequence[Path]:
    reports = record(core, events, [BigTiffWriter(folder / "x.ome.tiff"), CV2Writer("x.mp4")])
    assert_type(reports[0].complete, bool)
    return [Path(reports[0].path)]


def film(writer: OMEZarrWriter) -> str:
    with writer:
        writer.begin(32, 16, False, sizes={"t": 2}, pixel_size_um=0.5)
        writer.add_frame(np.zeros((16, 32)), index={"t": 0}, timestamp_s=0.1)
        assert_type(writer.error, WriteError | None)
        return writer.finish({"subject": "M7"}).path


def read(path: str) -> Dataset:
    dataset = open_dataset(path)
    assert_type(dataset.shape, tuple[int, ...])
    dataset.read_image(t=0, c="DAPI").mean()
    return dataset


def mistakes(writer: TiffSeriesWriter) -> None:
    BigTiffWriter(5)  # type: ignore[arg-type]
    writer.begin("32", 16)  # type: ignore[arg-type]
    writer.finnish()  # type: ignore[attr-defined]
    verify(5)  # type: ignore[arg-type]
    save_array("x.ome.tiff", np.zeros((2, 2)))  # type: ignore[call-arg]
"""


def imported(code: str) -> set[str]:
    """Return the packages that a fresh interpreter has imported after `code`."""
    code = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_public_name_is_there_and_described() -> None:
    for name in mda_writers.__all__:
        if name != "__version__":
            assert (getattr(mda_writers, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mda_writers.nothing  # noqa: B018


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


def test_a_users_script_is_type_checked_against_the_package(tmp_path: Path) -> None:
    """Right calls pass; each mistake is found, or its ``type: ignore`` would be unused."""
    (tmp_path / "consumer.py").write_text(CONSUMER, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "consumer.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


def test_its_version_is_that_of_the_distribution() -> None:
    assert distribution("mda-writers").version == mda_writers.__version__


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("mda-writers")
    done = subprocess.run([command, "--help"], capture_output=True, encoding="utf-8", check=True)
    assert "verify" in done.stdout


def test_napari_finds_the_manifest_of_the_reader() -> None:
    (manifest,) = {entry.value for entry in entry_points(group="napari.manifest")} & {
        "mda_writers:napari.yaml"
    }
    package, _, file = manifest.partition(":")
    assert (Path(sys.modules[package].__file__ or "").parent / file).is_file()


def test_simulated_microscopes_come_with_the_package() -> None:
    assert {"demo.cfg"} <= {path.name for path in MM_CONFIGS.glob("*.cfg")}
