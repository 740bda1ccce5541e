"""Recordings and foreign files in an object store open with all that is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import zarr

from mda_writers import OMEZarrWriter, open_dataset
from mda_writers.errors import CorruptRecordingError
from s3_server import LEFT_OPEN, Server, close_connections, options_of, s3fs
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = LEFT_OPEN

SIZES = {"p": 2, "t": 3, "c": 2}


@pytest.fixture(autouse=True)
def no_pool() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.kill()


@pytest.fixture
def options(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    monkeypatch.chdir(tmp_path)
    yield options_of(server)
    close_connections()


def fill(writer: OMEZarrWriter, numbers: range) -> None:
    for number, place in enumerate(np.ndindex(*SIZES.values())):
        if number in numbers:
            index = dict(zip(SIZES, place, strict=True))
            writer.add_frame(stamp(index, (16, 24), "uint16"), index=index, metadata={"n": number})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_recording_in_a_bucket_has_its_metadata_where_its_sidecar_is(
    version: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "s3://bucket/folder/exp.ome.zarr"
    writer = OMEZarrWriter(url, storage_options=options, ngff_version=version, levels=2)
    writer.begin(24, 16, False, dtype="uint16", sizes=SIZES, channels=["DAPI", "FITC"])
    fill(writer, range(7))
    with open_dataset(tmp_path / "exp.ome.zarr", storage_options=options) as live:
        while len(live.image_coordinates) < 7:
            live.refresh()
        check_stamp(live.read_image(p=1, t=0, c=0), {"p": 1, "t": 0, "c": 0})
        assert len(live.missing) == 5
    fill(writer, range(7, 12))
    writer.finish()
    for path in (url, tmp_path / "exp.ome.zarr", tmp_path / "exp.ome.zarr_recording.json"):
        with open_dataset(path, storage_options=options) as dataset:
            assert dataset.complete
            assert dataset.shapes == [(2, 3, 2, 16, 24), (2, 3, 2, 8, 12)]
            for place in np.ndindex(*SIZES.values()):
                index = dict(zip(SIZES, place, strict=True))
                check_stamp(dataset.read_image(**index), index)
                assert dataset.read_metadata(**index)["mda_writers"]["index"] == index
            whole = dataset.as_array().compute()
            check_stamp(whole[1, 2, 1], {"p": 1, "t": 2, "c": 1})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with open_dataset(url, storage_options=options) as dataset:
        check_stamp(dataset.read_image(p=1, t=2, c=1), {"p": 1, "t": 2, "c": 1})
        assert dataset.read_metadata(p=1, t=2, c=1) == {}
    with pytest.raises(CorruptRecordingError, match=r"nothing\.zarr"):
        open_dataset("s3://bucket/nothing.zarr", storage_options=options)


def test_a_lost_object_is_an_error_and_a_black_frame_is_none(
    options: dict[str, Any], tmp_path: Path
) -> None:
    url = "s3://bucket/exp.ome.zarr"
    writer = OMEZarrWriter(url, storage_options=options)
    writer.begin(24, 16, False, dtype="uint16", sizes={"t": 2})
    for _ in range(2):
        writer.add_frame(np.zeros((16, 24), np.uint16))
    writer.finish()
    store = s3fs.S3FileSystem(**options)
    chunks = sorted(name for name in store.find("bucket/exp.ome.zarr") if "/c/" in name)
    store.rm(chunks[1])
    with open_dataset(tmp_path / "exp.ome.zarr", storage_options=options) as dataset:
        assert not dataset.read_image(t=0).any()
        with pytest.raises(CorruptRecordingError, match=r"the object .* is missing"):
            dataset.read_image(t=1)


def test_a_recording_of_colour_in_a_bucket(options: dict[str, Any], tmp_path: Path) -> None:
    writer = OMEZarrWriter("s3://bucket/exp.ome.zarr", storage_options=options)
    writer.begin(24, 16, True, dtype="uint8", sizes={"t": 2})
    for t in range(2):
        writer.add_frame(stamp({"t": t}, (16, 24, 3), "uint8"), index={"t": t})
    writer.finish()
    with open_dataset(tmp_path / "exp.ome.zarr", storage_options=options) as dataset:
        assert dataset.shape == (2, 16, 24, 3)
        check_stamp(dataset.read_image(t=1), {"t": 1})


def test_what_others_put_into_a_bucket_opens(options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (2, 3, 20, 30)).astype(np.uint16)
    store = zarr.storage.FsspecStore.from_url("s3://bucket/plate.zarr", storage_options=options)
    root = zarr.open_group(store, mode="w", zarr_format=2)
    root.attrs["plate"] = {"wells": [{"path": "B/2", "rowIndex": 1, "columnIndex": 1}]}
    well = root.create_group("B/2")
    well.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
    for n in range(2):
        field = well.create_group(str(n))
        field.create_array("0", data=pixels[n], chunks=(1, 20, 30))
        scale = {"type": "scale", "scale": [1, 0.5, 0.5]}
        space = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
        field.attrs["multiscales"] = [{
            "version": "0.4",
            "axes": [{"name": "c", "type": "channel"}, *space],
            "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        }]  # fmt: skip
    with open_dataset("s3://bucket/plate.zarr", storage_options=options) as dataset:
        assert dataset.positions == ["B2_0", "B2_1"]
        assert dataset.pixel_size_um == 0.5
        np.testing.assert_array_equal(dataset.as_array().compute(), pixels)
        np.testing.assert_array_equal(dataset.read_image(p="B2_1", c=2), pixels[1, 2])
