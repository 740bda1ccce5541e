"""Metadata that JSON cannot hold: recorded as numbers, lists or text, never a reason to fail."""

from __future__ import annotations

import collections
import dataclasses
import enum
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
import pytest
import useq
from hypothesis import given
from hypothesis import strategies as st

from engine import StampedEngine
from mda_writers import (
    Acquisition,
    BigTiffWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    open_dataset,
    record,
)
from mda_writers.model.encode import sequence_dict, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

pytestmark = pytest.mark.usefixtures("no_thread_left")


class Colour(enum.Enum):
    RED = np.float32(1)


@dataclasses.dataclass(repr=False)  # through the entangled ones it would take for ever
class Device:
    label: str
    partner: Any = None


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    power: Any = None


class Live:
    """Stands for a device under control: nothing that one asks of it works."""

    def __repr__(self) -> str:
        raise RuntimeError("the device is busy")

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("the device is busy")


class Torn(collections.abc.Mapping[str, int]):
    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        yield "first"
        raise RuntimeError("the device is busy")

    def __getitem__(self, key: str) -> int:
        return 1


def entangled() -> list[Device]:
    """Return devices that all know each other: there are billions of ways through them."""
    devices = [Device(f"device {n}") for n in range(15)]
    for device in devices:
        device.partner = devices
    return devices


def itself() -> list[Any]:
    nested: list[Any] = ["outer"]
    nested += [nested, {"inner": nested}]
    return nested


def deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    return nested


NOT_JSON: dict[str, Any] = {
    "float32": np.float32(2.5),
    "longdouble": np.longdouble(1.5),
    "array": np.arange(6, dtype=">u2").reshape(2, 3)[:, ::2],
    "complex_array": np.array([1 + 2j]),
    "structured": np.zeros(2, [("a", "i4"), ("b", "f8")]),
    "bytes": b"\xff\x00",
    "set": {1, 2},
    "nan": float("nan"),
    "infinities": [float("inf"), -np.inf, np.array([np.nan])],
    "complex": 1 + 2j,
    "path": Path("a") / "b",
    "time": [datetime(2026, 1, 2, tzinfo=UTC), timedelta(seconds=1.5), np.datetime64("2026-01-02")],
    "enum": Colour.RED,
    "dataclass": Device("laser", Live()),
    "model": Settings(power=object()),
    "keys": {(1, 2): "a", 1: "b", "1": "c", None: "d", b"x": "e", Colour.RED: "f"},
    "huge": [2**70, -(2**64), 10**5000],
    "surrogate": {"\ud800": "\udfff"},
    "live": Live(),
    "torn": Torn(),
    "type": Live,
    "entangled": entangled(),
    "itself": itself(),
    "deep": deep(),
    "endless": itertools.count(),
}


def plain(found: Any) -> Any:
    """Check that JSON's strictest readers take all of `found`."""
    return json.loads(json.dumps(found, allow_nan=False))


def check(found: dict[str, Any]) -> None:
    """Check what was recorded for `NOT_JSON`."""
    assert list(found) == list(NOT_JSON)
    assert None not in found.values()
    assert found["float32"] == 2.5
    assert found["longdouble"] == 1.5
    assert found["array"] == [[0, 2], [3, 5]]
    assert found["complex_array"] == ["(1+2j)"]
    assert found["bytes"] == "/wA="
    assert found["set"] == [1, 2]
    assert found["nan"] == "NaN"
    assert found["infinities"] == ["Infinity", "-Infinity", ["NaN"]]
    assert found["enum"] == 1.0
    assert found["dataclass"] == {"label": "laser", "partner": "<Live>"}
    assert len(found["keys"]) == 6 and {"a", "b", "c", "d", "e", "f"} == {*found["keys"].values()}
    assert found["huge"][0] == str(2**70)
    assert found["surrogate"] == {"\\ud800": "\\udfff"}
    assert found["live"] == "<Live>"
    assert len(found["entangled"]) == 15
    assert found["itself"][0] == "outer"
    assert next(NOT_JSON["endless"]) >= 0  # and nobody went through it


def test_any_value_becomes_numbers_lists_or_text() -> None:
    check(plain(json.loads(to_json(NOT_JSON))))


@pytest.mark.parametrize("name", NOT_JSON)
def test_each_value_is_taken_alone(name: str) -> None:
    found = plain(json.loads(to_json({name: NOT_JSON[name]})))
    assert found[name] is not None


def in_a_dataclass(value: Any) -> Device:
    return Device("x", value)


def in_a_model(value: Any) -> Settings:
    return Settings(power=value)


def example(name: str) -> Any:
    return NOT_JSON[name]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.binary()
    | st.text(st.characters())
    | st.datetimes()
    | st.uuids()
    | st.fractions()
    | st.sampled_from(list(NOT_JSON)).map(example),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none() | st.binary(), inner)
        | inner.map(in_a_dataclass)
        | inner.map(in_a_model)
    ),
    max_leaves=20,
)


@given(anything)
def test_whatever_people_put_into_metadata_is_written(value: Any) -> None:
    plain(json.loads(to_json({"value": value})))


@given(st.dictionaries(st.integers() | st.text(st.characters()), st.integers(0, 9)))
def test_no_key_is_lost_to_another(mapping: dict[Any, int]) -> None:
    assert sorted(json.loads(to_json(mapping)).values()) == sorted(mapping.values())


def test_a_sequence_is_read_back_by_useq_whatever_its_metadata_hold() -> None:
    inner = useq.MDASequence(z_plan={"range": 2, "step": 1}, metadata={"x": b"\xff"})
    sequence = useq.MDASequence(
        metadata=NOT_JSON,
        stage_positions=[useq.Position(x=1, y=2, sequence=inner), (3, 4, 5)],
        channels=["DAPI"],
    )
    found = json.loads(to_json(sequence_dict(sequence)))
    check(found.pop("metadata"))
    assert found["stage_positions"][0]["sequence"]["metadata"] == {"x": "/w=="}
    read = useq.MDASequence.model_validate(found)
    assert [e.index for e in read] == [e.index for e in sequence]
    assert [(e.x_pos, e.z_pos) for e in read] == [(e.x_pos, e.z_pos) for e in sequence]


class TalkativeEngine(StampedEngine):
    """Puts all of it into the summary and into every frame's metadata, too."""

    def setup_sequence(self, sequence: useq.MDASequence) -> Any:
        summary = super().setup_sequence(sequence)
        assert summary is not None
        return {**summary, "extra": NOT_JSON}

    def get_frame_metadata(self, event: MDAEvent, *args: Any, **kwargs: Any) -> Any:
        return {**super().get_frame_metadata(event, *args, **kwargs), "extra": NOT_JSON}


NAMES = ["tiff", "zlib", "zarr", "zarr-0.4", "video", "series"]
WRITERS: list[Callable[[Path], Any]] = [
    lambda folder: BigTiffWriter(folder / "exp.ome.tiff"),
    lambda folder: BigTiffWriter(folder / "exp.tif", compression="zlib"),
    lambda folder: OMEZarrWriter(folder / "exp.ome.zarr"),
    lambda folder: OMEZarrWriter(folder / "exp.ome.zarr", ngff_version="0.4"),
    lambda folder: CV2Writer(folder / "exp.mkv", fourcc="FFV1"),
    lambda folder: TiffSeriesWriter(folder / "exp", ome=True),
]


@pytest.mark.parametrize("make", WRITERS, ids=NAMES)
def test_an_acquisition_with_any_metadata_is_recorded(
    make: Callable[[Path], Any], core: CMMCorePlus, tmp_path: Path
) -> None:
    core.mda.set_engine(TalkativeEngine(core))
    sequence = useq.MDASequence(
        metadata=NOT_JSON, channels=["DAPI"], time_plan=useq.TIntervalLoops(interval=0, loops=2)
    )
    events = [event.replace(metadata=NOT_JSON) for event in sequence]
    for plan, folder in ((sequence, tmp_path / "sequence"), (events, tmp_path / "events")):
        (report,) = record(core, plan, make(folder), progress=False)
        assert report.complete
        with open_dataset(report.path) as dataset:
            assert dataset.complete
            frame = plain(dataset.read_metadata(t=1))
            check(frame["extra"])
            if plan is events:
                check(frame["mda_event"]["metadata"])
            check(plain(dataset.summary_metadata)["extra"])
        header = json.loads(Path(f"{report.path}_recording.json").read_bytes())
        if plan is sequence:
            check(plain(header["sequence"])["metadata"])


@pytest.mark.parametrize("make", WRITERS, ids=NAMES)
def test_a_camera_of_ones_own_may_give_any_metadata(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    strange = {"mda_event": "laser", "position": 7, "exposure_ms": "long", "runner_time_ms": 2**90}
    with make(tmp_path) as writer:
        writer.begin(64, 48, metadata={"extra": NOT_JSON, **strange})
        for _ in range(2):
            writer.add_frame(
                np.zeros((48, 64), np.uint8),
                metadata={"extra": NOT_JSON, **strange},
                timestamp_s=float("nan"),
            )
        report = writer.finish({"extra": NOT_JSON})
    assert report.complete
    with open_dataset(report.path) as dataset:
        found = plain(dataset.read_metadata(t=1))
        check(found["extra"])
        assert found["position"] == 7
        check(plain(dataset.summary_metadata)["extra"])
    content = json.loads(Path(f"{report.path}_recording.json").read_bytes())
    check(plain(content["extra_metadata"])["extra"])


def test_a_session_takes_any_metadata(core: CMMCorePlus, tmp_path: Path) -> None:
    core.mda.set_engine(StampedEngine(core))
    with Acquisition(tmp_path, subject=1, session=1, task="x", metadata=NOT_JSON) as acq:
        acq.writer("camera", ".ome.tiff")
        acq.record(core, useq.MDASequence(metadata=NOT_JSON, channels=["DAPI"]), progress=False)
        for value in NOT_JSON.values():
            acq.log("wheel", value)
            acq.log("sensor", {"a": value, b"\xff": value}, device_time=value)
            acq.note(value)
        acq.log("wheel", NOT_JSON)
    manifest = json.loads(acq.manifest_path.read_bytes())
    check(plain(manifest["metadata"]))
    assert manifest["complete"]
    configuration = next(tmp_path.rglob("*configuration.json"))
    check(plain(json.loads(configuration.read_bytes()))["sequence"]["metadata"])
