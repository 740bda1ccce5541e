"""Many recordings: what is done stays done, what fails harms nobody, nothing is overwritten."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import orjson
import pytest

from batch_recordings import recorded
from mda_writers import convert, open_dataset, verify
from mda_writers.batch import BatchError
from mda_writers.batch import jobs as job_module
from mda_writers.batch.jobs import Staging
from mda_writers.batch.provenance import ProcessRecord
from stamps import check_stamp

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_thread_left")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def statuses(summary: object) -> list[str]:
    return [result.status for result in summary.results]  # type: ignore[attr-defined]


def test_a_folder_of_recordings_becomes_a_folder_of_results(tmp_path: Path) -> None:
    for name in ("a.ome.tiff", "sub/a.ome.tiff", "sub/deep/b.tif"):
        recorded(tmp_path / "in" / name)
    summary = convert(tmp_path / "in", tmp_path / "out", suffix=".ome.zarr", progress=False)
    assert statuses(summary) == ["done"] * 3
    for name in ("a.ome.zarr", "sub/a.ome.zarr", "sub/deep/b.ome.zarr"):
        with open_dataset(tmp_path / "out" / name) as dataset:
            assert dataset.complete
            check_stamp(dataset.read_image(t=3, c="FITC"), {"t": 3, "c": 1})
            assert dataset.read_metadata(t=3, c="FITC")["note"] == "31"


def test_what_is_done_is_skipped_and_what_is_missing_is_made(tmp_path: Path) -> None:
    for name in "abc":
        recorded(tmp_path / "in" / f"{name}.ome.tiff")

    def again() -> list[str]:
        return statuses(
            convert(tmp_path / "in", tmp_path / "out", suffix=".ome.zarr", progress=False)
        )

    assert again() == ["done"] * 3
    before = contents(tmp_path / "out")
    assert again() == ["skipped"] * 3
    assert contents(tmp_path / "out") == before
    for path in (tmp_path / "out").glob("b.ome.zarr*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert again() == ["skipped", "done", "skipped"]


def test_the_record_says_what_a_result_was_made_from(tmp_path: Path) -> None:
    source = recorded(tmp_path / "a.ome.tiff")
    convert(source, tmp_path / "out" / "a.ome.zarr", levels=2, progress=False)
    told = orjson.loads((tmp_path / "out" / "a.ome.zarr.process.json").read_bytes())
    assert told["process"] == "convert"
    assert told["parameters"] == {"levels": 2}
    inputs = {file["path"]: file for file in told["inputs"]}
    assert set(inputs) == {
        str(source), f"{source}_frame_metadata.json", f"{source}_recording.json"
    }  # fmt: skip
    assert inputs[str(source)]["size_bytes"] == source.stat().st_size
    assert len(inputs[str(source)]["xxh3_128"]) == 32
    assert {"mda-writers", "numpy", "zarr", "python"} <= set(told["versions"])
    for name in told["outputs"]:
        assert (tmp_path / "out" / name).exists()


@pytest.mark.parametrize("what", ["input", "parameters", "version", "output"])
def test_a_result_that_no_longer_answers_is_not_skipped_and_not_overwritten(
    what: str, tmp_path: Path
) -> None:
    source, out = recorded(tmp_path / "a.ome.tiff"), tmp_path / "out" / "a.ome.zarr"
    convert(source, out, progress=False)
    options = {}
    if what == "input":
        with source.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            last = stream.read(1)
            stream.seek(-1, os.SEEK_END)
            stream.write(bytes([last[0] ^ 1]))
    elif what == "parameters":
        options = {"levels": 2}
    elif what == "version":
        path = out.with_name("a.ome.zarr.process.json")
        told = orjson.loads(path.read_bytes())
        told["versions"]["mda-writers"] = "0.0"
        path.write_bytes(orjson.dumps(told))
    else:
        next(file for file in out.rglob("c/*") if file.is_dir() or file.is_file())
        (out / "zarr.json").write_bytes((out / "zarr.json").read_bytes() + b" ")
    before = contents(tmp_path / "out")
    with pytest.raises(BatchError, match="exists, and is not what would be made now"):
        convert(source, out, progress=False, **options)
    assert contents(tmp_path / "out") == before
    if what != "input":
        convert(source, out, overwrite=True, progress=False, **options)
        assert verify(out).ok


def test_touching_an_input_does_not_make_its_result_again(tmp_path: Path) -> None:
    source, out = recorded(tmp_path / "a.ome.tiff"), tmp_path / "b.ome.zarr"
    convert(source, out, progress=False)
    os.utime(source, (1, 1))
    assert statuses(convert(source, out, progress=False)) == ["skipped"]


def test_one_that_fails_is_named_with_its_reason_and_the_others_are_made(tmp_path: Path) -> None:
    for name in "abc":
        recorded(tmp_path / "in" / f"{name}.ome.tiff")
    (tmp_path / "in" / "b.ome.tiff").write_bytes(b"II")
    with pytest.raises(BatchError, match=r"1 of 3 .*\n.*b.ome.zarr: .*b.ome.tiff") as caught:
        convert(tmp_path / "in", tmp_path / "out", suffix=".ome.zarr", progress=False)
    assert statuses(caught.value.summary) == ["done", "failed", "done"]
    assert {p.name.split(".")[0] for p in (tmp_path / "out").iterdir()} == {"a", "c"}


@pytest.mark.parametrize(
    "taken", ["x.ome.zarr", "x.ome.zarr_frame_metadata.json", "x.ome.zarr_recording.json"]
)
def test_a_file_of_somebody_else_is_never_overwritten(taken: str, tmp_path: Path) -> None:
    source = recorded(tmp_path / "a.ome.tiff")
    (tmp_path / taken).write_bytes(b"somebody's")
    with pytest.raises(BatchError, match="exists"):
        convert(source, tmp_path / "x.ome.zarr", progress=False)
    assert (tmp_path / taken).read_bytes() == b"somebody's"
    assert not list(tmp_path.glob(".*"))


def test_a_position_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    with_positions = tmp_path / "in" / "exp.ome.zarr"
    source = tmp_path / "in" / "exp.ome.tiff"
    from mda_writers import BigTiffWriter

    writer = BigTiffWriter(source)
    writer.begin(16, 16, dtype="uint8", sizes={"p": 2})
    for p in range(2):
        import numpy as np

        writer.add_frame(np.full((16, 16), p, "uint8"))
    writer.finish()
    convert(source, with_positions, progress=False)
    out = tmp_path / "out"
    out.mkdir()
    (out / "exp_p1.ome.tiff").write_bytes(b"somebody's")
    with pytest.raises(BatchError, match=r"exp_p1.ome.tiff: exists"):
        convert(with_positions, out / "exp.ome.tiff", progress=False)
    assert contents(out) == {"exp_p1.ome.tiff": b"somebody's"}


def test_two_recordings_with_one_name_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    one, two = recorded(tmp_path / "1" / "a.tif"), recorded(tmp_path / "2" / "a.tif")
    with pytest.raises(ValueError, match="would both become"):
        convert([one, two], tmp_path / "out", suffix=".ome.zarr", progress=False)
    assert not (tmp_path / "out").exists()


def test_unknown_options_and_suffixes_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    source = recorded(tmp_path / "a.ome.tiff")
    with pytest.raises(TypeError, match="lewels"):
        convert(source, tmp_path / "o.ome.zarr", lewels=3, progress=False)
    with pytest.raises(ValueError, match=r"suffix=.*ome.zarr"):
        convert(source, tmp_path / "out", progress=False)
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "none.tif", tmp_path / "o.ome.zarr", progress=False)
    assert not list(tmp_path.glob("o*"))


def test_a_recording_that_is_still_written_is_not_taken_for_whole(tmp_path: Path) -> None:
    import numpy as np

    from mda_writers import BigTiffWriter

    with BigTiffWriter(tmp_path / "a.ome.tiff") as writer:
        writer.begin(16, 16, dtype="uint8", sizes={"t": 2})
        writer.add_frame(np.zeros((16, 16), "uint8"))
        with pytest.raises(BatchError, match="still being written"):
            convert(tmp_path / "a.ome.tiff", tmp_path / "b.ome.zarr", progress=False)
        writer.add_frame(np.zeros((16, 16), "uint8"))
        writer.finish()


class _Killed(BaseException):
    """What a kill looks like from inside: nothing is caught, nothing cleaned up."""


@pytest.mark.parametrize("moved", range(4))
def test_a_job_killed_while_its_result_is_put_in_place_is_completed(
    moved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = recorded(tmp_path / "a.ome.tiff"), tmp_path / "out" / "b.ome.zarr"
    whole = tmp_path / "whole" / "b.ome.zarr"
    convert(source, whole, progress=False)
    work = Staging(out)
    job = job_module.Job(_convert(), (source,), out)
    monkeypatch.setattr(Staging, "place", _killed)
    with pytest.raises(_Killed):
        job.run()
    monkeypatch.undo()
    work.folder.joinpath("room_made").touch()
    for path in work._made()[:moved]:
        path.rename(out.parent / path.name)
    assert ProcessRecord.read(out.with_name("b.ome.zarr.process.json")) is None
    assert job.run().status == "skipped"
    assert set(contents(out.parent)) == set(contents(whole.parent))
    assert verify(out).ok


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not there")
def test_a_batch_that_was_killed_is_completed_by_the_next(tmp_path: Path) -> None:
    for n in range(6):
        recorded(tmp_path / "in" / f"{n}.ome.tiff", frames=30, shape=(256, 256))
    code = (
        "import mda_writers\n"
        "mda_writers.convert('in', 'out', suffix='.ome.zarr', workers=2, progress=False)\n"
    )
    out = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len(list(out.glob("*.process.json"))) < 2:
        time.sleep(0.001)
    child.kill()
    child.wait()
    done = {path.name for path in out.glob("*.process.json")}
    assert 2 <= len(done) < 6
    summary = convert(tmp_path / "in", out, suffix=".ome.zarr", progress=False)
    assert {
        f"{r.output.name}.process.json" for r in summary.results if r.status == "skipped"
    } >= done
    assert not list(out.glob(".*"))
    for n in range(6):
        assert verify(out / f"{n}.ome.zarr").ok


def test_two_processes_never_make_one_result_at_once(tmp_path: Path) -> None:
    source, out = recorded(tmp_path / "a.ome.tiff"), tmp_path / "b.ome.zarr"
    with Staging(out).held(), pytest.raises(BatchError, match="being made by another process"):
        convert(source, out, progress=False)
    assert convert(source, out, progress=False).ok


def _convert() -> object:
    from mda_writers.batch.conversion import Convert

    return Convert({})


def _killed(*_: object, **__: object) -> None:
    raise _Killed


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT does not reach a single child there")
def test_ctrl_c_leaves_no_half_result_and_the_next_batch_goes_on(tmp_path: Path) -> None:
    for n in range(6):
        recorded(tmp_path / "in" / f"{n}.ome.tiff", frames=60, shape=(256, 256))
    out = tmp_path / "out"
    words = [sys.executable, "-m", "mda_writers", "convert", "in", "-o", "out", "--to", ".ome.zarr"]
    child = subprocess.Popen([*words, "--workers", "1"], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(out.glob(".*.making/result/*")):
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode not in (0, 1)
    assert b"Traceback" not in told
    made = {path.name for path in out.glob("*.ome.zarr")}
    assert len(made) < 6
    assert not list(out.glob(".*"))
    assert all((out / f"{name}.process.json").exists() for name in made)
    summary = convert(tmp_path / "in", out, suffix=".ome.zarr", progress=False)
    skipped = {result.output.name for result in summary.results if result.status == "skipped"}
    assert skipped == made
    assert all(verify(result.output, progress=False).ok for result in summary.results)
