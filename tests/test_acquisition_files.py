"""The session's own files: notes, logs, timestamps, configuration, hashes."""

from __future__ import annotations

import csv
import threading
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import useq
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.disk import fill, small_disk
from mda_writers import Acquisition, DiskFullError
from mda_writers.acquisition.devices import DeviceLog
from mda_writers.acquisition.logs import Moment, csv_line, read_csv
from mda_writers.storage.files import content_hash
from sessions import NAMES

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# ------------------------------------------------------------ notes


def test_note_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        notes = acq.folder / "notes.csv"
        for number, text in enumerate(["plain", 'with "quotes", commas', "two\nlines", "µ 鼠 🐭"]):
            before = Moment.now()
            acq.note(text)
            row = rows(notes)[number]
            assert row["note"] == text
            assert before.unix_time_s <= float(row["unix_time_s"])
            assert before.monotonic_s <= float(row["monotonic_s"]) <= Moment.now().monotonic_s
            assert row["time"][:10] == before.time[:10]


# ------------------------------------------------------------ logs


def test_log_row_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        for number in range(3):
            acq.log("wheel", {"position": number, "speed": np.float64(0.1)}, device_time=number * 2)
            (file,) = acq.folder.glob("beh/*_wheel.csv")
            row = rows(file)[number]
            del row["unix_time_s"], row["monotonic_s"]
            assert row == {
                "device_time": str(number * 2),
                "position": str(number),
                "speed": "0.1",
                "other": "",
            }


def test_no_value_of_a_log_is_lost_whatever_its_form(tmp_path: Path) -> None:
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.log("wheel", {"position": 1, "device_time": "its own", 3: [1, 2]})
        acq.log("wheel", {"lick": np.int8(7)})
        acq.log("wheel", 5.5)
        for value in (b"12\n", None, Decimal("1.5"), float("nan"), True, {}, np.arange(2)):
            acq.log("sensor", value)
    session = Acquisition.open(acq.folder)
    first, second, third = session.log("wheel")
    assert (first["position"], first["payload.device_time"], first["3"]) == (
        "1",
        "its own",
        "[1,2]",
    )
    assert orjson.loads(second["other"]) == {"lick": 7}
    assert orjson.loads(third["other"]) == {"payload": 5.5}
    values = [row["payload"] for row in session.log("sensor")]
    assert values == ["12\n", "", "1.5", "nan", "True", "{}", "[0,1]"]


@given(st.lists(st.lists(st.one_of(st.text(), st.floats(), st.integers(), st.none())), max_size=5))
@settings(deadline=None)
def test_what_csv_says_is_what_was_written(tmp_path_factory: Any, table: list[list[Any]]) -> None:
    names = [f"c{n}" for n in range(max((len(row) for row in table), default=0) + 1)]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    table = [[*row, "end"] + [None] * (len(names) - len(row) - 1) for row in table]
    path.write_bytes(csv_line(names) + b"".join(csv_line(row) for row in table))
    for found, row in zip(read_csv(path), table, strict=True):
        for text, value in zip(found.values(), row, strict=True):
            if isinstance(value, float):
                assert float(text) == value or value != value
            else:
                assert text == ("" if value is None else str(value))


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\t=1", "'=1", "''-1a"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula_to_a_spreadsheet(text: str, tmp_path: Path) -> None:
    with Acquisition(tmp_path, subject=1, session=1, task="x") as acq:
        acq.note(text)
        acq.log("serial", text)
        acq.log("bytes", text.encode())
        acq.log("named", {text: text, "number": -1.5, "as text": "-1.5"})
    session = Acquisition.open(acq.folder)
    for file in acq.folder.rglob("*.csv"):
        with file.open(encoding="utf-8", newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [c for c in cells if c[:1] in ("=", "+", "-", "@", "\t") and c != "-1.5"]
    assert [note["note"] for note in session.notes] == [text]
    assert [row["payload"] for row in session.log("serial")] == [text]
    assert [row["payload"] for row in session.log("bytes")] == [text]
    (row,) = session.log("named")
    assert (row[text], row["number"], row["as text"]) == (text, "-1.5", "-1.5")


def test_threads_log_whole_rows_side_by_side(tmp_path: Path) -> None:
    def work(thread: int) -> None:
        for number in range(500):
            acq.log("wheel", {"thread": thread, "number": number})

    with Acquisition(tmp_path, **NAMES) as acq:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [
        (int(r["thread"]), int(r["number"])) for r in Acquisition.open(acq.folder).log("wheel")
    ]
    assert sorted(found) == [(t, n) for t in range(4) for n in range(500)]


def test_memory_of_a_log_does_not_grow(tmp_path: Path) -> None:
    log = DeviceLog(tmp_path / "wheel.csv")
    for number in range(100):
        log.append({"position": number}, number, Moment.now())
    tracemalloc.start()
    try:
        for number in range(10_000):
            log.append({"position": number}, number, Moment.now())
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
        log.close()
    assert log.rows == 10_100


def test_full_disk_of_a_log_is_told_and_the_rows_before_stay(tmp_path: Path) -> None:
    refused = 0
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(DiskFullError, match="free"), Acquisition(disk, **NAMES) as acq:
            acq.log("wheel", 1)
            fill(disk / "ballast")
            while refused < 3:  # after the first one, nothing is put behind half a row
                try:
                    acq.log("wheel", "x" * 1000)
                except DiskFullError:
                    refused += 1
                    (disk / "ballast").unlink(missing_ok=True)
        session = Acquisition.open(acq.folder)
        found = list(session.log("wheel"))
        (log,) = session.manifest.producers
    assert (session.status, session.complete) == ("failed", False)
    assert found[0]["payload"] == "1"
    assert (log.recordings[0].rows_written, log.recordings[0].rows_refused) == (len(found), 3)


def test_session_on_a_full_disk_raises_and_never_claims_to_be_complete(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with (
            pytest.raises(DiskFullError, match=r"manifest\.json: .* free"),
            Acquisition(disk, **NAMES) as acq,
        ):
            writer = acq.writer("eye", ".ome.tiff", direct=True)
            writer.begin(8, 8)
            writer.add_frame(np.ones((8, 8), np.uint8))
            writer.finish()
            fill(disk / "ballast")
        (disk / "ballast").unlink()
        session = Acquisition.open(acq.folder)
        assert (session.status, session.complete) == ("crashed", False)
        assert session.dataset("eye").read_image(t=0).all()


# ------------------------------------------------------------ configuration


def test_configuration_tells_devices_properties_and_sequence(
    core: CMMCorePlus, tmp_path: Path
) -> None:
    sequence = useq.MDASequence(
        channels=[{"config": "FITC", "exposure": 5}],
        stage_positions=[(1, 2, 3)],
        metadata={"who": "me"},
    )
    core.setProperty("Camera", "Gain", 3)
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        acq.record(core, sequence, progress=False)
    (found,) = Acquisition.open(acq.folder).configurations
    assert useq.MDASequence.model_validate(found["sequence"]).channels == sequence.channels
    table = {
        (r["section"], r["device"], r["name"]): r["value"]
        for r in rows(acq.folder / "configuration.csv")
    }
    for device in found["devices"]:
        for prop in device["properties"]:
            here = core.getProperty(device["label"], prop["name"])
            assert table["property", device["label"], prop["name"]] == prop["value"]
            if (device["label"], prop["name"]) == ("Camera", "Gain"):
                assert here == prop["value"] == "3"
    assert {d["label"] for d in found["devices"]} == set(core.getLoadedDevices()) - {"Core"} or {
        d["label"] for d in found["devices"]
    } == set(core.getLoadedDevices())
    assert table["sequence", "", "channels.0.config"] == "FITC"
    assert table["sequence", "", "stage_positions.0.x"] == "1.0"
    assert table["device", "Camera", "library"] == "DemoCamera"


@pytest.mark.parametrize("form", [list, iter])
def test_configuration_of_single_events_leaves_them_to_the_run(
    form: Any, core: CMMCorePlus, tmp_path: Path
) -> None:
    events = [useq.MDAEvent(index={"t": t}) for t in range(3)]
    with Acquisition(tmp_path, **NAMES) as acq:
        acq.writer("meso", ".ome.tiff")
        (report,) = acq.record(core, form(events), progress=False)
    assert report.frames_written == 3
    (found,) = Acquisition.open(acq.folder).configurations
    assert found["sequence"] == ([{"index": {"t": t}} for t in range(3)] if form is list else None)


def test_device_that_cannot_be_asked_keeps_nobody_from_recording(
    core: CMMCorePlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise RuntimeError("the stage does not answer")

    with (
        pytest.raises(RuntimeError, match="does not answer"),
        Acquisition(tmp_path, **NAMES) as acq,
    ):
        acq.writer("meso", ".ome.tiff")
        with monkeypatch.context() as patch:
            patch.setattr("pymmcore_plus.metadata.summary_metadata", silent)
            acq.save_configuration(core)
        (report,) = acq.record(core, useq.MDASequence(channels=["FITC"]), progress=False)
    assert report.complete
    manifest = orjson.loads(acq.manifest_path.read_bytes())
    assert manifest["errors"] == ["RuntimeError: the stage does not answer"]


# ------------------------------------------------------------ hashes


def test_hash_of_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "large"
    block = np.random.default_rng(1).bytes(1 << 20)
    whole = xxhash.xxh3_128()
    with file.open("wb") as stream:
        for _ in range(64):
            stream.write(block)
            whole.update(block)
    tracemalloc.start()
    try:
        size, digest = content_hash(file)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (size, digest) == (64 << 20, whole.hexdigest())


def test_hash_of_a_file_is_the_one_of_other_tools(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    # as the specification of XXH3 and `xxhsum -H2` have it
    assert content_hash(tmp_path / "empty") == (0, "99aa06d3014798d86001c324468d497f")


def test_hash_of_a_folder_tells_every_change(tmp_path: Path) -> None:
    folder = tmp_path / "store.zarr"
    (folder / "0" / "c").mkdir(parents=True)
    (folder / "zarr.json").write_bytes(b"{}")
    (folder / "0" / "c" / "0").write_bytes(b"\0" * 10)
    seen = [content_hash(folder)]
    assert seen[0][0] == 12
    assert content_hash(folder) == seen[0]
    (folder / "0" / "c" / "0").write_bytes(b"\0" * 9 + b"\1")
    seen.append(content_hash(folder))
    (folder / "0" / "c" / "0").rename(folder / "0" / "c" / "1")
    seen.append(content_hash(folder))
    (folder / "zarr.json").unlink()
    seen.append(content_hash(folder))
    assert len(set(seen)) == 4


def test_file_that_cannot_be_read_back_fails_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> tuple[int, str]:
        if path.name.endswith("_wheel.csv"):
            raise OSError(5, "Input/output error", str(path))
        return content_hash(path)

    monkeypatch.setattr("mda_writers.acquisition.manifest.content_hash", unreadable)
    with pytest.raises(OSError, match="Input/output"), Acquisition(tmp_path, **NAMES) as acq:
        acq.log("wheel", 1)
    session = Acquisition.open(acq.folder)
    assert (session.status, session.complete) == ("failed", False)
    assert "Input/output error" in session.manifest.errors[0]
    (row,) = session.log("wheel")
    assert row["payload"] == "1"


def test_ctrl_c_while_files_are_hashed_keeps_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> tuple[int, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("mda_writers.acquisition.manifest.content_hash", interrupted)
    with pytest.raises(KeyboardInterrupt), Acquisition(tmp_path, **NAMES) as acq:
        acq.log("wheel", 1)
    session = Acquisition.open(acq.folder)
    assert (session.status, session.complete) == ("interrupted", False)
    assert session.manifest.producers[0].complete
    (row,) = session.log("wheel")
    assert row["payload"] == "1"
