"""Identity of recordings: known by their set id, never taken for one another, never harmed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import tifffile
import useq

from mda_writers import (
    BigTiffWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    open_dataset,
    recover,
    verify,
)
from mda_writers.errors import CorruptRecordingError, WriteError
from mda_writers.recording.journal import sealed
from mda_writers.report.page import write_report_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

pytestmark = pytest.mark.usefixtures("no_thread_left")

WRITERS: dict[str, Callable[..., Any]] = {
    "ome-tiff": lambda folder, stem, **o: BigTiffWriter(folder / f"{stem}.ome.tiff", **o),
    "tiff": lambda folder, stem, **o: BigTiffWriter(folder / f"{stem}.tif", **o),
    "compressed": lambda folder, stem, **o: BigTiffWriter(
        folder / f"{stem}.ome.tif", compression="zlib", **o
    ),
    "zarr": lambda folder, stem, **o: OMEZarrWriter(folder / f"{stem}.ome.zarr", **o),
    "zarr-0.4": lambda folder, stem, **o: OMEZarrWriter(
        folder / f"{stem}.zarr", ngff_version="0.4", **o
    ),
    "zarr-compressed": lambda folder, stem, **o: OMEZarrWriter(
        folder / f"{stem}.ome.zarr", compression="blosc-lz4", levels=2, **o
    ),
    "video": lambda folder, stem, **o: CV2Writer(folder / f"{stem}.mkv", fourcc="FFV1", **o),
    "series": lambda folder, stem, **o: TiffSeriesWriter(folder, **o),
}

kinds = pytest.mark.parametrize("kind", WRITERS)
one_or_more = pytest.mark.parametrize("positions", [1, 3])


def take(writer: Any, value: int, positions: int, *, finish: bool = True) -> str:
    """Record two time points of each position, all pixels `value` plus their number."""
    writer.begin(32, 24, False, dtype="uint8", sizes={"t": 2, "p": positions})
    for t, p in np.ndindex(2, positions):
        writer.add_frame(
            np.full((24, 32), (value + 10 * p + t) % 256, np.uint8), index={"t": t, "p": p}
        )
    if finish:
        writer.finish()
    else:
        writer.isel(t=0)
    return str(writer._run.path.name)


def check(path: Path, value: int, positions: int) -> None:
    """Check all pixels of the recording at `path`."""
    with open_dataset(path) as dataset:
        for t, p in np.ndindex(2, positions):
            where = {"t": t, "p": p} if positions > 1 else {"t": t}
            assert np.unique(dataset.read_image(**where)) == [value + 10 * p + t]
            dataset.read_metadata(**where)


def rename(folder: Path, stem: str, to: str) -> None:
    for file in list(folder.iterdir()):
        if file.name.startswith(stem):
            file.rename(file.with_name(to + file.name.removeprefix(stem)))


def interrupted(kind: str, folder: Path, value: int, positions: int) -> str:
    """Record in `folder`, and leave there what a killed process leaves."""
    writer = WRITERS[kind](folder / "live", "exp", max_projection=kind == "ome-tiff")
    name = take(writer, value, positions, finish=False)
    shutil.copytree(folder / "live", folder, dirs_exist_ok=True)
    writer.finish()
    shutil.rmtree(folder / "live")
    return name


# ---------------------------------------------------------------- renamed and moved


@kinds
@one_or_more
def test_a_renamed_recording_opens_also_beside_a_new_one_of_its_old_name(
    kind: str, positions: int, tmp_path: Path
) -> None:
    options = {"max_projection": True} if kind == "ome-tiff" else {}
    name = take(WRITERS[kind](tmp_path, "exp", **options), 1, positions)
    stem = "run_000" if kind == "series" else "exp"
    rename(tmp_path, stem, "run_777" if kind == "series" else "exp_of yesterday")
    renamed = tmp_path / name.replace("run_000", "run_777").replace("exp", "exp_of yesterday")
    if kind == "series":
        folder = tmp_path / "new"
        assert take(WRITERS[kind](folder, "exp"), 101, positions) == "run_000"
        for file in list(folder.iterdir()):
            file.rename(tmp_path / file.name)
    else:
        assert take(WRITERS[kind](tmp_path, "exp"), 101, positions) == name
    for path, value in ((renamed, 1), (tmp_path / name, 101)):
        check(path, value, positions)
        result = verify(path, progress=False)
        assert result.ok and result.complete and not result.files_missing
        assert result.frames_checked == 2 * positions
        write_report_page(path)
        (tmp_path / f"{path.name}_report.html").unlink(missing_ok=True)
    with open_dataset(renamed) as dataset:
        assert dataset.complete
        file = dataset.read_metadata(t=0, **({"p": 0} if positions > 1 else {}))["mda_writers"]
        assert (tmp_path / file.get("file", renamed.name)).exists()


@kinds
@one_or_more
def test_a_renamed_interrupted_recording_is_recovered_and_stays_itself(
    kind: str, positions: int, tmp_path: Path
) -> None:
    name = interrupted(kind, tmp_path, 1, positions)
    stem, to = ("run_000", "run_777") if kind == "series" else ("exp", "yesterday")
    rename(tmp_path, stem, to)
    renamed = tmp_path / name.replace(stem, to)
    check(renamed, 1, positions)
    if kind != "series":
        take(WRITERS[kind](tmp_path, "exp"), 101, positions)
        before = content(tmp_path, "exp")
    assert verify(renamed, progress=False).frames_checked == 2 * positions
    report = recover(renamed)
    assert report.frames_written == 2 * positions
    assert all(file.startswith(str(tmp_path / to)) for file in report.paths)
    check(renamed, 1, positions)
    result = verify(renamed, progress=False)
    assert not (result.faults or result.files_missing or result.files_damaged)
    rename(tmp_path, to, "again" if kind != "series" else "run_888")
    again = tmp_path / name.replace(stem, "again" if kind != "series" else "run_888")
    check(again, 1, positions)
    assert recover(again).frames_written == 2 * positions
    if kind != "series":
        assert content(tmp_path, "exp") == before
        check(tmp_path / name, 101, positions)


def content(folder: Path, stem: str) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and str(file.relative_to(folder)).startswith(stem)
    }


# ---------------------------------------------------------------- names that are read

OUTSIDE = ["../victim", "/tmp/victim", "..", ".", "", "victim", "sub/victim", "..\\victim", "C:\\v"]


def forged(kind: str, folder: Path, name: str, *, ended: bool) -> Path:
    """Return a recording whose description names `name`, sealed as if it were true."""
    if ended:
        main = folder / take(WRITERS[kind](folder, "exp"), 1, 2)
        file = main.with_name(main.name + "_recording.json")
        header = orjson.loads(file.read_bytes())
        header.pop("seal", None)
        for image in header["layout"]["images"]:
            image["file"], image["files"] = name, [name]
        header["projections"] = name
        file.write_bytes(sealed(orjson.dumps(header)) + b"\n")
        return main
    main = folder / interrupted(kind, folder, 1, 2)
    file = main.with_name(main.name + "_frames.jsonl")
    lines = []
    for line in file.read_bytes().splitlines():
        entry = orjson.loads(line)
        entry.pop("seal", None)
        if "image" in entry:
            entry["image"]["file"], entry["image"]["files"] = name, [name]
        if "frame" in entry and "file" in entry["frame"]["mda_writers"]:
            ours = entry["frame"]["mda_writers"]
            ours["file"] = name
            ours.pop("seal", None)
        lines.append(orjson.dumps(entry) + b"\n")
    file.write_bytes(b"".join(lines))
    return main


@kinds
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "interrupted"])
def test_a_name_that_leads_elsewhere_is_never_followed(
    kind: str, ended: bool, tmp_path: Path
) -> None:
    for number, name in enumerate(OUTSIDE):
        folder = tmp_path / str(number) / "data"
        folder.mkdir(parents=True)
        victim = tmp_path / str(number) / "victim"
        victim.mkdir()
        (victim / "zarr.json").write_bytes(b"keep")
        (folder / "victim").write_bytes(b"keep")
        (folder / "sub").mkdir()
        (folder / "sub" / "victim").write_bytes(b"keep")
        main = forged(kind, folder, name, ended=ended)
        for use in (_open, _verify, recover, write_report_page):
            try:
                use(main)
            except (CorruptRecordingError, ValueError):
                continue
            assert ended and use is recover  # which has nothing to do then
        if kind != "series":
            with suppress(WriteError, FileExistsError):
                take(WRITERS[kind](folder, "exp", overwrite=True), 101, 2)
        assert (victim / "zarr.json").read_bytes() == b"keep"
        assert (folder / "victim").read_bytes() == b"keep"
        assert (folder / "sub" / "victim").read_bytes() == b"keep"


def _open(path: Path) -> None:
    with open_dataset(path) as dataset:
        dataset.read_image(t=0, p=0)


def _verify(path: Path) -> None:
    result = verify(path, progress=False)
    if result.faults or result.files_missing or result.files_damaged:
        raise CorruptRecordingError(f"{path}: not whole.")


# ---------------------------------------------------------------- overwriting

replacing = pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "series"])
"""A series overwrites nothing: each of its runs has a new folder."""


def old_one(kind: str, folder: Path, positions: int = 2) -> Path:
    options = {"max_projection": True} if kind == "ome-tiff" else {}
    return folder / take(WRITERS[kind](folder, "exp", **options), 1, positions)


def check_only(folder: Path, main: Path, value: int, positions: int = 2) -> None:
    """Check the recording, and that nothing else and nothing half is in the folder."""
    check(main, value, positions)
    result = verify(main, progress=False)
    assert not (result.faults or result.files_missing or result.files_damaged)
    assert not [file.name for file in folder.iterdir() if file.name.endswith(".replaced")]


@replacing
def test_a_live_recording_is_not_overwritten(kind: str, tmp_path: Path) -> None:
    first = WRITERS[kind](tmp_path, "exp")
    main = tmp_path / take(first, 1, 2, finish=False)
    second = WRITERS[kind](tmp_path, "exp", overwrite=True)
    with pytest.raises(WriteError, match="still being written"):
        take(second, 101, 3)
    done = subprocess.run(
        [sys.executable, "-c", OVERWRITE, kind, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "still being written" in done.stderr, done.stderr
    assert first.finish().complete
    check_only(tmp_path, main, 1)
    assert take(second, 101, 3) == main.name  # now it may
    check_only(tmp_path, main, 101, 3)


OVERWRITE = f"""
import pathlib, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_contract_recordings import WRITERS, take
take(WRITERS[sys.argv[1]](pathlib.Path(sys.argv[2]), "exp", overwrite=True), 101, 2)
"""


@replacing
@pytest.mark.parametrize(
    "why", ["no room", "no such pixels", "no such plan", "no frame", "a name that is taken"]
)
def test_the_old_recording_stays_until_the_new_one_is_there(
    kind: str, why: str, tmp_path: Path
) -> None:
    main = old_one(kind, tmp_path)
    before = everything(tmp_path)
    options: dict[str, Any] = {"min_free_bytes": 1 << 60} if why == "no room" else {}
    writer = WRITERS[kind](tmp_path, "exp", overwrite=True, **options)
    plan: dict[str, Any] = {"sizes": {"t": 2, "p": 2}, "dtype": "uint8"}
    if why == "no such pixels":
        plan["dtype"] = "complex256" if kind == "tiff" else "complex128"
    if why == "no such plan":
        writer.sequenceStarted(useq.MDASequence(), {})
        writer.sequenceFinished(useq.MDASequence())
    elif why == "no frame":
        writer.begin(32, 24, False, **plan)
        assert not writer.finish().paths
        assert not writer.paths
    else:
        if why == "a name that is taken":
            plan["sizes"] = {"t": 2, "p": 4}
            stem, dot, suffix = main.name.partition(".")
            for p in range(4):
                (tmp_path / f"{stem}_p{p}{dot}{suffix}").touch()
            before = everything(tmp_path)
        try:
            writer.begin(32, 24, False, **plan)
            writer.add_frame(np.zeros((24, 32), plan["dtype"]))
            writer.finish()
        except (WriteError, ValueError, TypeError):
            pass
        else:
            pytest.skip("this format has no such thing")
    assert everything(tmp_path) == before
    check(main, 1, 2)


def everything(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@replacing
def test_a_run_that_is_cancelled_before_its_first_frame_replaces_nothing(
    kind: str, core: CMMCorePlus, tmp_path: Path
) -> None:
    main = old_one(kind, tmp_path)
    before = everything(tmp_path)
    writer = WRITERS[kind](tmp_path, "exp", overwrite=True, core=core)
    sequence = useq.MDASequence(time_plan={"interval": 0, "loops": 3})
    with suppress(WriteError):
        writer.sequenceStarted(sequence, core.mda.engine.setup_sequence(sequence) or {})
        writer.sequenceCanceled(sequence)
        writer.sequenceFinished(sequence)
        writer.result()
    assert everything(tmp_path) == before
    check(main, 1, 2)


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", ["ome-tiff", "zarr", "video"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for every operation")
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "interrupted"])
def test_a_kill_at_any_file_operation_leaves_the_old_recording_or_the_new_one(
    kind: str, ended: bool, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLS, kind, str(tmp_path), str(int(ended))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    tried = int(done.stdout)
    left = []
    for number in range(tried):
        folder = tmp_path / str(number)
        main = next(folder.glob("*_expected")).name.removesuffix("_expected")
        recover(folder / main)
        with open_dataset(folder / main) as dataset:
            value = int(dataset.read_image(t=0, p=0).max())
        left.append(value)
        if value == 1:
            check(folder / main, 1, 2)
        result = verify(folder / main, progress=False)
        assert not (result.faults or result.files_missing or result.files_damaged)
        assert not list(folder.glob(".*.replaced"))
    assert left == sorted(left) and set(left) == {1, 101}


KILLS = f"""
import os, pathlib, shutil, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_contract_recordings import WRITERS, old_one, interrupted, take
kind, root, ended = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3] == "1"
first = root / "first"
first.mkdir()
name = old_one(kind, first).name if ended else interrupted(kind, first, 1, 2)
(first / (name + "_expected")).touch()
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
at = 10**9
def hook(event, given):
    global at
    if event in EVENTS and str(root) in str(given[0]):
        if event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR):
            return
        at -= 1
        if at < 0:
            os._exit(9)
sys.addaudithook(hook)
number = 0
while True:
    folder = root / str(number)
    shutil.copytree(first, folder)
    child = os.fork()
    if not child:
        at = number
        take(WRITERS[kind](folder, "exp", overwrite=True), 101, 2)
        os._exit(0)
    number += 1
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(number)
"""


@pytest.mark.parametrize("kind", ["ome-tiff", "tiff", "compressed", "video"])
def test_a_file_of_another_recording_is_not_overwritten(kind: str, tmp_path: Path) -> None:
    main = old_one(kind, tmp_path)
    before = everything(tmp_path)
    with open_dataset(main) as dataset:
        file = dataset.read_metadata(t=0, p=0)["mda_writers"]["file"]
    writer = WRITERS[kind](tmp_path, "exp", overwrite=True)
    writer.path = tmp_path / file  # what a second writer of the same class would be given
    with pytest.raises(WriteError, match=f"belongs to another recording, {main.name}"):
        take(writer, 101, 1)
    assert everything(tmp_path) == before


@replacing
def test_what_is_no_recording_is_not_overwritten(kind: str, tmp_path: Path) -> None:
    main = old_one(kind, tmp_path, 1)
    for file in list(tmp_path.glob(f"{main.name}_*")):
        file.unlink()
    before = everything(tmp_path)
    with pytest.raises(
        (WriteError, FileExistsError), match="belongs to another recording or to none"
    ):
        take(WRITERS[kind](tmp_path, "exp", overwrite=True), 101, 1)
    assert everything(tmp_path) == before


@replacing
def test_a_journal_that_another_recording_took_ends_nothing(kind: str, tmp_path: Path) -> None:
    first = WRITERS[kind](tmp_path, "exp")
    main = tmp_path / take(first, 1, 2, finish=False)
    journal = main.with_name(main.name + "_frames.jsonl")
    journal.unlink()  # somebody cleans up, and then another program records here
    journal.write_bytes(b'{"recording":{"path":"exp","set_id":"another"}}\n')
    with pytest.raises(WriteError, match="removed, or replaced"):
        first.finish()
    assert journal.read_bytes().count(b"another") == 1
    assert not main.with_name(main.name + "_recording.json").exists()


# ---------------------------------------------------------------- few descriptors

MANY = 50
"""Positions; a process that may open 72 files can have far fewer of them open."""


@pytest.mark.sample(3)
@kinds
@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no RLIMIT_NOFILE")
def test_more_files_than_a_process_may_open(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FEW, kind, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


FEW = f"""
import os, pathlib, resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from mda_writers import convert, open_dataset, recover, verify
from test_contract_recordings import MANY, WRITERS, check, interrupted, take
kind, folder = sys.argv[1], pathlib.Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (72, 72))
many = 20 if kind == "video" else MANY
main = folder / take(WRITERS[kind](folder, "exp"), 1, many)
with open_dataset(main) as dataset:
    for t, p in np.ndindex(2, many):
        assert dataset.read_image(t=t, p=p)[0, 0] == (1 + 10 * p + t) % 256, (t, p)
    assert dataset.as_array().compute().shape[:2] in ((2, many), (many, 2))
result = verify(main, progress=False)
assert result.ok and result.frames_checked == 2 * many, result
cut = folder / "cut"
cut.mkdir()
main = cut / interrupted(kind, cut, 1, many)
assert recover(main).frames_written == 2 * many
assert not verify(main, progress=False).faults
convert(main, folder / "copy.ome.zarr", progress=False, workers=1)
"""


@pytest.mark.parametrize("kind", ["ome-tiff", "compressed"])
def test_a_file_of_another_recording_in_the_place_of_ones_own_is_not_shown(
    kind: str, tmp_path: Path
) -> None:
    main = old_one(kind, tmp_path / "a", 2)
    other = old_one(kind, tmp_path / "b", 2)
    with open_dataset(main) as dataset:
        file = dataset.read_metadata(t=0, p=0)["mda_writers"]["file"]
    shutil.copy(other.with_name(file), main.with_name(file))
    with open_dataset(main) as dataset:
        with pytest.raises(CorruptRecordingError, match="A file of another recording"):
            dataset.read_image(t=0, p=0)
        assert np.unique(dataset.read_image(t=0, p=1)) == [11]


@kinds
def test_a_lost_file_is_missing_and_its_recording_not_complete(kind: str, tmp_path: Path) -> None:
    main = old_one(kind, tmp_path, 3)
    with open_dataset(main) as dataset:
        assert dataset.complete
        file = main.parent / dataset.read_metadata(t=1, p=1)["mda_writers"]["file"]
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    lost = [(1, 1)] if kind == "series" else [(0, 1), (1, 1)]
    with open_dataset(main) as dataset:
        assert not dataset.complete
        missing = [(index["t"], dataset.axes["p"].index(index["p"])) for index in dataset.missing]
        assert missing == lost
        for t, p in np.ndindex(2, 3):
            assert dataset.has_image(t=t, p=p) == ((t, p) not in lost), (t, p)


@pytest.mark.parametrize("kind", ["ome-tiff", "compressed"])
def test_a_foreign_file_is_missing_and_its_recording_not_complete(
    kind: str, tmp_path: Path
) -> None:
    main = old_one(kind, tmp_path / "a", 2)
    other = old_one(kind, tmp_path / "b", 2)
    with open_dataset(main) as dataset:
        file = dataset.read_metadata(t=0, p=0)["mda_writers"]["file"]
    shutil.copy(other.with_name(file), main.with_name(file))
    with open_dataset(main) as dataset:
        assert not dataset.complete
        assert len(dataset.missing) == 2
        assert not dataset.has_image(t=0, p=0)
        assert dataset.has_image(t=0, p=1)


def test_old_recording_stays_while_the_new_one_could_not_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    path = tmp_path / "exp.ome.tiff"
    for number in range(3):
        writer = BigTiffWriter(path, overwrite=number > 0)
        with monkeypatch.context() as patch:
            if number == 1:
                patch.setattr("mda_writers.recording.replaced._sync", fails)
            writer.begin(16, 16, dtype="uint16")
            writer.add_frame(np.full((16, 16), number, np.uint16))
            writer.finish()
        aside = tmp_path / ".exp.ome.tiff.replaced"
        assert aside.exists() == (number == 1)
        if number == 1:
            assert tifffile.imread(aside / path.name).max() == 0
        assert tifffile.imread(path).max() == number
