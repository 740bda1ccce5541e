"""The command line: what it prints, and the exit code that scripts go by."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mda_writers import BigTiffWriter, OMEZarrWriter
from mda_writers.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    writer = BigTiffWriter(tmp_path / "x.ome.tif")
    writer.begin(40, 30, False, dtype="uint16", sizes={"t": 4, "c": 2}, channels=["DAPI", "FITC"])
    for n in range(8):
        writer.add_frame(np.full((30, 40), n, np.uint16))
    writer.finish()
    return tmp_path / "x.ome.tif"


def test_demo_records_verifies_and_lists(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "mda_writers", "demo", "--out", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo.ome.tiff: all 90 frames read back as they were acquired" in done.stdout
    assert "demo.ome.zarr: all 90 frames read back as they were acquired" in done.stdout
    assert "demo.ome.tiff: 90 of 90 frames seen as they came" in done.stdout
    assert "demo.mp4: verified, 90 frames read" in done.stdout
    session = re.search(r"^session: finished, with (.*) and 2 notes$", done.stdout, re.MULTILINE)
    assert session is not None
    assert set(session[1].split(", ")) == {"eye", "meso", "wheel"}  # by who was first
    assert len(list((tmp_path / "out").rglob("report.html"))) == 2
    listed = {line.split()[1].rstrip("/") for line in done.stdout.splitlines() if "── " in line}
    assert listed == {path.name for path in (tmp_path / "out").iterdir()}


def test_info_tells_axes_channels_and_state(recording: Path) -> None:
    code, text = run("info", recording)
    assert code == 0
    for word in ("t 4, c 2, y 30, x 40", "uint16", "DAPI, FITC", "complete"):
        assert word in text


def test_verify_finds_one_flipped_bit(recording: Path) -> None:
    assert run("verify", recording)[0] == 0
    content = bytearray(recording.read_bytes())
    content[4096 + 5 * 2400 + 7] ^= 1
    recording.write_bytes(content)
    code, text = run("verify", recording)
    assert code == 1
    assert "frame 5 (t=2, c=1)" in text


def test_verify_of_many_says_which_are_not_fine(recording: Path) -> None:
    writer = BigTiffWriter(recording.with_name("cut.tif"))
    writer.begin(40, 30, sizes={"t": 4})
    writer.add_frame(np.zeros((30, 40), np.uint8))
    writer.finish()
    code, text = run("verify", recording.parent)
    assert code == 1
    assert "1 done, 1 failed" in text
    assert "the recording is not complete" in " ".join(text.split())
    assert run("verify", recording, recording.with_name("nothing.tif"))[0] == 2


def test_an_incomplete_recording_is_found(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.tif")
    writer.begin(40, 30, sizes={"t": 4})
    writer.add_frame(np.zeros((30, 40), np.uint8))
    writer.finish()
    assert run("info", tmp_path / "x.tif")[0] == 1
    assert run("verify", tmp_path / "x.tif")[0] == 1


def test_recover_completes_what_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, numpy as np\n"
        "from mda_writers import BigTiffWriter\n"
        "writer = BigTiffWriter('x.ome.tif')\n"
        "writer.begin(40, 30, sizes={'t': 9})\n"
        "for n in range(5): writer.add_frame(np.full((30, 40), n, np.uint8))\n"
        "writer.isel(t=4)\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    exit_code, text = run("recover", tmp_path / "x.ome.tif")
    assert exit_code == 0
    assert "done" in text
    assert "5 of 9 planned frames" in text
    again = run("recover", tmp_path / "x.ome.tif")
    assert again[0] == 0
    assert "skipped" in again[1]
    assert "it has ended: 5 of 9 planned frames are on disk" in " ".join(again[1].split())
    sidecar = json.loads((tmp_path / "x.ome.tif_frame_metadata.json").read_text())
    assert len(sidecar["p0"]) == 5


def test_report_writes_a_page(recording: Path) -> None:
    code, text = run("report", recording, "-o", recording.parent / "page.html")
    assert code == 0
    assert "page.html" in text
    assert "<html" in (recording.parent / "page.html").read_text()


@pytest.mark.parametrize("command", ["info", "verify", "recover", "report"])
def test_what_is_not_there_is_told_in_a_sentence(command: str, tmp_path: Path) -> None:
    code, text = run(command, tmp_path / "nothing.ome.tif")
    assert code == 2
    assert "nothing.ome.tif" in text.replace("\n", "")
    assert "Traceback" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_each_of_its_options_has_a_help(name: str) -> None:
    command: Any = COMMANDS[name]
    assert command.help, name
    described = {parameter.name: parameter.help for parameter in command.params}
    assert all(described.values()), described
    done = run(name, "--help")
    assert done[0] == 0
    assert "Usage" in done[1]


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyError("layout"), IndexError(3), AttributeError("get"), OSError()]
)
def test_no_error_of_a_library_reaches_people_raw(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("mda_writers.dataset.opening.open_dataset", failing)
    monkeypatch.setattr("mda_writers.batch.many.recover_all", failing)
    for command in ("info", "recover"):
        result = CliRunner().invoke(app, [command, str(tmp_path)])
        assert result.exit_code == 2
        assert isinstance(result.exception, SystemExit)
        assert type(error).__name__ in result.stderr
        assert result.stderr.rstrip().endswith(".") and len(result.stderr.split()) > 6


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"layout": null}'])
@pytest.mark.parametrize("file", ["a.ome.zarr/0/zarr.json", "a.ome.zarr_recording.json"])
def test_damaged_metadata_gets_a_sentence(file: str, content: bytes, tmp_path: Path) -> None:
    writer = OMEZarrWriter(tmp_path / "a.ome.zarr")
    writer.begin(16, 16)
    writer.add_frame(np.zeros((16, 16), np.uint8))
    writer.finish()
    (tmp_path / file).write_bytes(content)
    for words in (["info"], ["verify"], ["convert", "-o", str(tmp_path / "b.ome.tiff")]):
        result = CliRunner().invoke(app, [*words, str(tmp_path / "a.ome.zarr")])
        assert isinstance(result.exception, SystemExit | None), words
        assert result.exit_code != 0 or words == ["info"]
        assert "Traceback" not in result.output
